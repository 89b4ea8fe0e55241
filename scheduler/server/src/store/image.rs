//! The local image: a verified copy of the store in one file, for healing, for backups, and for a store that is gone.
//!
//! In: an [`Image`] and a path. Out: a file that is either the old one or the new one, never half of it, and that is
//! believed only if its checksum, its realm and its set digest agree.
//!
//! Form: a line naming the form, a length-prefixed JSON header, then each key and value with their lengths, then SHA-256
//! of all that. Both functions block; call them from a thread that may.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::StoreError;
use super::record::{HEAD_SCHEMA, Head, Image};

const FORM: &[u8] = b"heddle-image 1\n";
const CHECKSUM_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
struct Header {
    realm: String,
    head_seq: u64,
    head: Head,
}

/// Writes a verified image: beside the target first, synced, then renamed over it.
pub fn write_image(path: &Path, realm: &str, image: &Image) -> Result<(), StoreError> {
    image.verify()?;
    let temporary = temporary_path(path);
    let failed = |source| StoreError::File {
        doing: format!("write image {}", path.display()),
        source,
    };
    write_synced(&temporary, realm, image).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    // The new name itself lives in the folder, and is durable only when that is.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    PathBuf::from(name)
}

fn write_synced(path: &Path, realm: &str, image: &Image) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // Intent may name internal addresses; it is nobody else's business on the machine.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let mut out = Checksummed {
        to: BufWriter::new(file),
        sum: Sha256::new(),
    };
    let header = Header {
        realm: realm.to_owned(),
        head_seq: image.head_seq,
        head: image.head.clone(),
    };
    out.write_all(FORM)?;
    out.piece(&serde_json::to_vec(&header)?)?;
    for (key, value) in &image.values {
        out.piece(key.as_bytes())?;
        out.piece(value)?;
    }
    let Checksummed { mut to, sum } = out;
    to.write_all(&sum.finalize())?;
    to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

struct Checksummed {
    to: BufWriter<File>,
    sum: Sha256,
}

impl Checksummed {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.to.write_all(bytes)
    }

    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a value has more than 4 GiB"))?;
        self.write_all(&len.to_be_bytes())?;
        self.write_all(bytes)
    }
}

/// Reads an image back and verifies it in every way there is. An image of another realm is refused.
pub fn read_image(path: &Path, realm: &str) -> Result<Image, StoreError> {
    let file = fs::read(path).map_err(|source| StoreError::File {
        doing: format!("read image {}", path.display()),
        source,
    })?;
    let corrupt = |why: String| StoreError::corrupt(format!("image {}", path.display()), why);
    let (header, image) = parse(Bytes::from(file)).map_err(&corrupt)?;
    if header.realm != realm {
        return Err(corrupt(format!(
            "it belongs to realm {:?}, not to {realm:?}",
            header.realm
        )));
    }
    image.verify()?;
    Ok(image)
}

fn parse(file: Bytes) -> Result<(Header, Image), String> {
    let body_len = file.len().checked_sub(CHECKSUM_BYTES).ok_or("it is too short")?;
    let (mut body, sum) = (file.slice(..body_len), file.slice(body_len..));
    if !body.starts_with(FORM) {
        return Err("it is no image, or of a form this scheduler does not know".into());
    }
    if Sha256::digest(&body)[..] != sum[..] {
        return Err("its checksum does not match its content".into());
    }
    body.advance(FORM.len());
    let header = take(&mut body).ok_or("it ends in its header")?;
    let header: Header = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    if header.head.schema > HEAD_SCHEMA {
        return Err(format!(
            "its head has schema {} (upgrade the scheduler)",
            header.head.schema
        ));
    }
    let mut values = BTreeMap::new();
    while body.has_remaining() {
        let key = take(&mut body).ok_or("it ends in a key")?;
        let key = String::from_utf8(key.to_vec()).map_err(|_| "a key in it is not text")?;
        values.insert(key, take(&mut body).ok_or("it ends in a value")?);
    }
    let image = Image {
        head: header.head.clone(),
        head_seq: header.head_seq,
        values,
    };
    Ok((header, image))
}

fn take(body: &mut Bytes) -> Option<Bytes> {
    if body.remaining() < 4 {
        return None;
    }
    let len = body.get_u32() as usize;
    (body.remaining() >= len).then(|| body.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::digest::SetDigest;

    fn image(values: usize) -> Image {
        let mut image = Image::empty();
        image.values = (0..values)
            .map(|i| (format!("workload.shop.w{i}"), Bytes::from(vec![i as u8; i])))
            .collect();
        image.head.digest = SetDigest::of(&image.values);
        image.head.count = values as u64;
        image.head_seq = 9;
        image
    }

    #[test]
    fn an_image_reads_back_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("realm.image");
        for size in [0, 1, 300] {
            write_image(&path, "eu", &image(size)).unwrap();
            assert_eq!(read_image(&path, "eu").unwrap(), image(size));
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "a temporary file was left"
        );
        assert!(read_image(&path, "us").unwrap_err().to_string().contains("realm"));
    }

    #[test]
    fn any_altered_or_missing_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("realm.image");
        write_image(&path, "eu", &image(5)).unwrap();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(parse(bad.into()).is_err(), "byte {at} may be altered");
            assert!(parse(good[..at].to_vec().into()).is_err(), "the file may end at {at}");
        }
    }

    #[test]
    fn an_image_that_does_not_verify_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("realm.image");
        let mut image = image(3);
        image.values.remove("workload.shop.w1");
        assert!(matches!(
            write_image(&path, "eu", &image),
            Err(StoreError::Diverged { .. })
        ));
        assert!(!path.exists());
    }
}
