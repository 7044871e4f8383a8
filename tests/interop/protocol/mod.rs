//! ZMTP: CURVE, PLAIN, ZAP, roles, limits, heartbeats, mechanisms, and peers of version 2.0.

pub(crate) mod curve;
mod heartbeats;
mod limits;
mod mechanisms;
pub(crate) mod plain;
mod roles;
mod secrets;
mod zap;
mod zap_matrix;
mod zmtp2;
