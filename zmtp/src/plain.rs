//! PLAIN: a user name and a password, both in the clear.

pub use crate::mechanism::plain::{
    Password, PasswordHash, PasswordHashError, PlainClient, PlainError,
};
