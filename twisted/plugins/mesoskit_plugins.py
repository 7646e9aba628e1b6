"""What C{twistd} finds of mesoskit; nothing heavy may be imported here."""
