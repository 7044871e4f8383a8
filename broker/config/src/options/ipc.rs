//! Access to the file of a local socket.

use std::fmt;
use std::str::FromStr;

use zmtp::show;

use super::value::{Field, Value};

/// Permission bits of a file, written in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpcMode(u32);

/// User and group of a file, each by name or number; empty leaves it to the system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IpcOwner {
    /// The group.
    pub group: String,
    /// The user.
    pub user: String,
}

impl IpcMode {
    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// Parses `0660`, or `660`.
impl FromStr for IpcMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(bits @ 0..=0o777) if is_octal => Ok(Self(bits)),
            _ => Err(format!(
                "\"{}\" is not a file mode: write three octal digits, 660 for example",
                show(text)
            )),
        }
    }
}

impl fmt::Display for IpcMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

/// Parses `user:group`, `user` or `:group`.
impl FromStr for IpcOwner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if user.len() + group.len() == 0 || !user.bytes().chain(group.bytes()).all(is_name) {
            return Err(format!(
                "\"{}\" is not a file owner: write USER:GROUP, USER or :GROUP, names or numbers",
                show(text)
            ));
        }
        Ok(Self {
            group: group.to_owned(),
            user: user.to_owned(),
        })
    }
}

impl fmt::Display for IpcOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        if !self.group.is_empty() {
            write!(f, ":{}", self.group)?;
        }
        Ok(())
    }
}

impl Field for Option<IpcMode> {
    fn load(&self) -> Value {
        load(self.as_ref())
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        *self = parse(&value)?;
        Ok(())
    }
}

impl Field for Option<IpcOwner> {
    fn load(&self) -> Value {
        load(self.as_ref())
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        *self = parse(&value)?;
        Ok(())
    }
}

/// [`None`] is an empty text.
fn load(value: Option<&impl fmt::Display>) -> Value {
    Value::Text(value.map_or_else(String::new, ToString::to_string))
}

fn parse<T: FromStr<Err = String>>(value: &Value) -> Result<Option<T>, String> {
    match value {
        Value::Text(text) if !text.is_empty() => text.parse().map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        for (text, bits, displayed) in [
            ("660", 0o660, "660"),
            ("0777", 0o777, "777"),
            ("0", 0, "000"),
        ] {
            let mode: IpcMode = text.parse().expect(text);
            assert_eq!((mode.bits(), &*mode.to_string()), (bits, displayed));
        }
        for text in ["", "rw", "668", "+66", "1777", "-1"] {
            let refusal = text.parse::<IpcMode>().expect_err(text);
            assert!(refusal.contains("write three octal digits"), "{refusal}");
        }
    }

    #[test]
    fn owners_are_users_or_groups_or_both() {
        for (text, user, group) in [
            ("zmqd", "zmqd", ""),
            (":users", "", "users"),
            ("0:100", "0", "100"),
        ] {
            let owner: IpcOwner = text.parse().expect(text);
            assert_eq!((&*owner.user, &*owner.group), (user, group));
            assert_eq!(owner.to_string(), text);
        }
        for text in ["", ":", "a b", "a:b:c", "ü"] {
            let refusal = text.parse::<IpcOwner>().expect_err(text);
            assert!(refusal.contains("write USER:GROUP"), "{refusal}");
        }
    }
}
