"""What is true of a lodgment, whichever agency it goes to: no input or output, no XML, no clock of its own."""
