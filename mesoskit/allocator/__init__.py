"""The allocator room: who is offered what, given now.

L{mesoskit.allocator.interface} is the door, L{mesoskit.allocator.hierarchical} the
allocator that a master uses unless it is given another; C{docs/allocator.md} explains it.
"""
