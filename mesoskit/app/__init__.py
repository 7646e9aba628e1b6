"""From flags to running services: the only room that names C{reactor}.

C{mesoskit.app.master} and C{mesoskit.app.agent} each have C{FLAGS}, C{Options} and
C{makeService}, which is what a twistd plugin wants, and a C{make_…} function for
programs that embed the daemon.
"""
