//! Cuts a scheduled program into sessions, steps and buffers and writes it: mechanical, takes no decision.
