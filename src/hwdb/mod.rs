//! Hardware profiles as data: read, list, nearest name, detect this machine; measures nothing.
