"""The vocabulary: the messages that travel, their names, and their bytes and JSON.

The C{*_pb2} modules are written from C{protocols/} when the package is built or installed.
"""
