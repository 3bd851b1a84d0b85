// The executor's part of the machine below runtime/emulator/machine.h.
