//! Tests that need the steps between those of the public face.

mod handoff;
