//! New names for a component's imports, and not one other byte of it.
//!
//! Types refer to imports by index and never by name, so what one import uses of another stays what it is.

use std::collections::{BTreeMap, BTreeSet};
use wasmparser::{Parser, Payload};

/// Gives imports of a component other names.
///
/// # Errors
/// In words: the bytes cannot be parsed, or there is no import of a name.
pub fn rename_imports(bytes: &[u8], rename: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(bytes.len() + rename.len() * 32);
    let mut missing: BTreeSet<&str> = rename.keys().map(String::as_str).collect();
    // Everything before this is in `out` already.
    let mut copied = 0;
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|e| e.to_string())? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                let range = section.range();
                let mut names = Vec::new();
                for import in section {
                    let name = import.map_err(|e| e.to_string())?.name.name;
                    missing.remove(name);
                    names.push(name);
                }
                let body = bytes.get(range.clone()).ok_or("a section ends beyond the file")?;
                let renamed = rename_section(body, &names, rename)?;
                let header = header_of(bytes, &range)?;
                out.extend_from_slice(&bytes[copied..header]);
                out.push(bytes[header]);
                write_len(&mut out, renamed.len())?;
                out.extend_from_slice(&renamed);
                copied = range.end;
            }
            _ => {}
        }
    }
    if let Some(name) = missing.first() {
        return Err(format!("it does not import {name}"));
    }
    out.extend_from_slice(&bytes[copied..]);
    Ok(out)
}

/// One section's body with its names replaced. `names` are slices of `body`, in order.
fn rename_section(body: &[u8], names: &[&str], rename: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(body.len() + names.len() * 16);
    let mut copied = 0;
    for name in names {
        let Some(new) = rename.get(*name) else { continue };
        let start = (name.as_ptr() as usize)
            .checked_sub(body.as_ptr() as usize)
            .filter(|start| start + name.len() <= body.len())
            .ok_or("an import's name is not in its section")?;
        let len = len_before(body, start, name.len()).ok_or("an import's name has no length")?;
        out.extend_from_slice(&body[copied..len]);
        write_len(&mut out, new.len())?;
        out.extend_from_slice(new.as_bytes());
        copied = start + name.len();
    }
    out.extend_from_slice(&body[copied..]);
    Ok(out)
}

/// Where the byte is that says what section this is: before the section's length.
fn header_of(bytes: &[u8], body: &std::ops::Range<usize>) -> Result<usize, String> {
    let len = len_before(bytes, body.start, body.len()).ok_or("a section has no length")?;
    len.checked_sub(1).ok_or_else(|| "a section has no id".to_owned())
}

/// Where the length that ends right before `end` begins. Encoders may write it with more bytes than are needed (up to
/// five), so the one that says `len` is searched; shorter ones first, and none of them can be part of another: each byte
/// of a length but its last has the high bit set.
fn len_before(bytes: &[u8], end: usize, len: usize) -> Option<usize> {
    let mut start = end.checked_sub(1)?;
    while start > 0 && end - start < 5 && bytes.get(start - 1)? & 0x80 != 0 && read_len(&bytes[start..end]) != Some(len)
    {
        start -= 1;
    }
    (read_len(&bytes[start..end]) == Some(len)).then_some(start)
}

fn read_len(bytes: &[u8]) -> Option<usize> {
    let mut value = 0_usize;
    for (i, byte) in bytes.iter().enumerate() {
        let last = i + 1 == bytes.len();
        if (byte & 0x80 == 0) != last || i >= 5 {
            return None;
        }
        value |= usize::from(byte & 0x7f) << (7 * i);
    }
    Some(value)
}

fn write_len(out: &mut Vec<u8>, len: usize) -> Result<(), String> {
    let mut rest = u32::try_from(len).map_err(|_| "it is too long".to_owned())?;
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            out.push(byte);
            return Ok(());
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports_of(bytes: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            if let Payload::ComponentImportSection(section) = payload.unwrap() {
                names.extend(section.into_iter().map(|i| i.unwrap().name.name.to_owned()));
            }
        }
        names
    }

    #[test]
    fn only_the_named_imports_change_and_what_uses_them_stays() {
        let bytes = wat::parse_str(
            r#"(component
                (import "a:b/store@0.1.0" (instance $s (export "bucket" (type (sub resource)))))
                (alias export $s "bucket" (type $b))
                (import "a:b/atomics@0.1.0" (instance
                    (alias outer 1 $b (type $o)) (export "bucket" (type $t (eq $o)))
                    (export "f" (func (param "b" (borrow $t))))))
                (component (import "a:b/store@0.1.0" (instance))))"#,
        )
        .unwrap();
        let long = format!("heddle:p0-{}/store@0.1.0", "x".repeat(300));
        let rename = BTreeMap::from([("a:b/store@0.1.0".to_owned(), long.clone())]);
        let renamed = rename_imports(&bytes, &rename).unwrap();
        assert_eq!(
            imports_of(&renamed),
            [long.as_str(), "a:b/atomics@0.1.0", "a:b/store@0.1.0"]
        );
        wasmparser::Validator::new().validate_all(&renamed).unwrap();
        // And back again: nothing else was touched.
        let back = BTreeMap::from([(long, "a:b/store@0.1.0".to_owned())]);
        assert_eq!(rename_imports(&renamed, &back).unwrap(), bytes);
    }

    #[test]
    fn lengths_that_are_longer_than_they_need_be_are_found() {
        assert_eq!(len_before(&[7, 0x83, 0x80, 0], 4, 3), Some(1));
        assert_eq!(len_before(&[7, 0x83, 3], 3, 3), Some(2));
        assert_eq!(len_before(&[7, 4], 2, 3), None);
        assert_eq!(len_before(&[], 0, 3), None);
    }

    #[test]
    fn an_import_that_is_not_there_is_refused() {
        let bytes = wat::parse_str("(component)").unwrap();
        let rename = BTreeMap::from([("a:b/c".to_owned(), "d:e/f".to_owned())]);
        assert!(rename_imports(&bytes, &rename).unwrap_err().contains("a:b/c"));
        assert!(rename_imports(b"\0asm", &rename).is_err());
    }
}
