//! Captures, controls and recordings of a proxy.

mod capture;
mod control;
mod recording;
