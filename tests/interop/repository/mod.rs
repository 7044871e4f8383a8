//! Rules for the files of this repository.

mod documents;
mod option_effects;
mod packages;
mod tidy;
