//! Rules for the files of this repository.

mod option_effects;
mod tidy;
