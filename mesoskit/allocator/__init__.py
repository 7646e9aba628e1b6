"""The allocator room: who is offered what, given now."""
