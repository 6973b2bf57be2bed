"""What lectr decides, without a socket, a clock or an await in it."""
