"""Who a peer is: SASL on the native stream, as Mesos has it on libprocess.

One side, the authenticatee, has a L{credential<mesoskit.wire.auth.credentials>}; the other,
the authenticator, has something to hold it against, a checker of C{twisted.cred}. The exchange
consists of Mesos' own messages (C{src/authentication/cram_md5} of Apache Mesos):

    AuthenticateMessage ->                        I have a credential
    <- AuthenticationMechanismsMessage            these ways are taken here, the best first
    AuthenticationStartMessage ->                 this one, and what it begins with
    <- AuthenticationStepMessage -> ...           challenge and response
    <- AuthenticationCompletedMessage             or ...FailedMessage, or ...ErrorMessage

  - L{mesoskit.wire.auth.sessions} is the exchange itself, both sides, without any input or output;
  - L{mesoskit.wire.auth.cram_md5} and L{mesoskit.wire.auth.scram} are the mechanisms;
  - L{mesoskit.wire.auth.checkers} holds a claim against the secrets of a file;
  - L{mesoskit.wire.auth.authenticator} and L{mesoskit.wire.auth.authenticatee} have the
    interfaces that other ways can be plugged in by, and what stands behind them by default;
  - L{mesoskit.wire.auth.admission} and L{mesoskit.wire.auth.identity} put them under links.
"""
