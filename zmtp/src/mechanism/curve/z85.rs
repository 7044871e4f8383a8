//! Z85: five printable characters for four bytes (RFC 32).

use std::fmt;

/// Bytes of a key.
const BYTES: usize = 32;
/// Characters of a key.
pub(super) const CHARACTERS: usize = 40;

const ALPHABET: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Why a text is not a key in Z85.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Z85Error {
    /// A character that Z85 does not use.
    #[error("character {position} is not one of Z85")]
    Character {
        /// Which one, counted from 1.
        position: usize,
    },
    /// A text that is not 40 characters long.
    #[error("a key has 40 characters, not {characters}")]
    Length {
        /// How many it has.
        characters: usize,
    },
    /// Five characters that stand for more than four bytes can hold.
    #[error("characters {position} to {} stand for more than four bytes", position + 4)]
    Overflow {
        /// The first of them, counted from 1.
        position: usize,
    },
}

/// The text of 32 bytes.
pub(super) fn encode(bytes: &[u8; BYTES]) -> [u8; CHARACTERS] {
    let mut text = [0; CHARACTERS];
    let groups = bytes.as_chunks::<4>().0;
    for (to, from) in text.as_chunks_mut::<5>().0.iter_mut().zip(groups) {
        let mut value = u32::from_be_bytes(*from);
        for character in to.iter_mut().rev() {
            *character = digit(value % 85);
            value /= 85;
        }
    }
    text
}

/// The 32 bytes of a text, written to `bytes`.
pub(super) fn decode(text: &str, bytes: &mut [u8; BYTES]) -> Result<(), Z85Error> {
    let Ok(text) = <&[u8; CHARACTERS]>::try_from(text.as_bytes()) else {
        let characters = text.chars().count();
        return Err(
            match text.chars().position(|character| !character.is_ascii()) {
                Some(index) if characters == CHARACTERS => Z85Error::Character {
                    position: index + 1,
                },
                _ => Z85Error::Length { characters },
            },
        );
    };
    let groups = text.as_chunks::<5>().0;
    let to = bytes.as_chunks_mut::<4>().0;
    for (index, (from, to)) in groups.iter().zip(to).enumerate() {
        let mut value = 0_u32;
        let position = 5 * index + 1;
        for (offset, character) in from.iter().enumerate() {
            let digit = value_of(*character).ok_or(Z85Error::Character {
                position: position + offset,
            })?;
            value = value
                .checked_mul(85)
                .and_then(|value| value.checked_add(digit))
                .ok_or(Z85Error::Overflow { position })?;
        }
        *to = value.to_be_bytes();
    }
    Ok(())
}

/// Writes an encoded text.
pub(super) fn write(text: &[u8; CHARACTERS], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(str::from_utf8(text).unwrap_or_default())
}

fn digit(value: u32) -> u8 {
    let index = usize::try_from(value).unwrap_or_default();
    ALPHABET.get(index).copied().unwrap_or_default()
}

fn value_of(character: u8) -> Option<u32> {
    let index = ALPHABET.iter().position(|digit| *digit == character)?;
    u32::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 32, and what fills a key up behind it.
    #[test]
    fn the_example_of_the_rfc() {
        let mut bytes = [0; BYTES];
        let start = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b];
        bytes[..8].copy_from_slice(&start);
        bytes[28..].copy_from_slice(&[0xff; 4]);
        let text = encode(&bytes);
        assert_eq!(&text, b"HelloWorld0000000000000000000000000%nSc0");
        let mut decoded = [1; BYTES];
        let text = str::from_utf8(&text).unwrap();
        assert_eq!(decode(text, &mut decoded), Ok(()));
        assert_eq!(decoded, bytes);
    }

    #[test]
    fn every_byte_in_every_place_comes_back() {
        for place in 0..BYTES {
            for byte in 0..=255 {
                let mut bytes = [0x5a; BYTES];
                bytes[place] = byte;
                let (text, mut decoded) = (encode(&bytes), [0; BYTES]);
                decode(str::from_utf8(&text).unwrap(), &mut decoded).unwrap();
                assert_eq!(decoded, bytes);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let zeros = "0".repeat(35);
        let table = [
            (String::new(), Z85Error::Length { characters: 0 }),
            ("0".repeat(39), Z85Error::Length { characters: 39 }),
            ("0".repeat(41), Z85Error::Length { characters: 41 }),
            ("ö".repeat(20), Z85Error::Character { position: 1 }),
            ("ö".repeat(21), Z85Error::Length { characters: 21 }),
            (
                format!("{zeros}0000ö"),
                Z85Error::Character { position: 40 },
            ),
            (
                format!("{zeros}00\"00"),
                Z85Error::Character { position: 38 },
            ),
            (
                format!("{zeros}0 000"),
                Z85Error::Character { position: 37 },
            ),
            (format!("{zeros}#####"), Z85Error::Overflow { position: 36 }),
            (format!("%nSc1{zeros}"), Z85Error::Overflow { position: 1 }),
        ];
        for (text, expected) in table {
            assert_eq!(decode(&text, &mut [0; BYTES]), Err(expected), "{text}");
        }
        assert_eq!(decode(&format!("%nSc0{zeros}"), &mut [0; BYTES]), Ok(()));
    }
}
