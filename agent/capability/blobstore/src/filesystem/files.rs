//! Files and folders of one scope. In: names. Out: files that were there whole or are there whole. All of it blocks.
//!
//! An object's file is its bytes, then its name, then the name's length and a mark.

use crate::backend::{Error, ObjectInfo};
use crate::spool::Spooled;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, Metadata, ReadDir};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

/// Where unfinished files are, beside the scopes: a digest has no such name.
pub(super) const SPOOL: &str = "unfinished";
/// The file of a folder that says which container it is.
const NAME: &str = "name";
/// What ends an object's file.
const MARK: &[u8; 4] = b"hdo1";
/// The name's length and the mark, in bytes.
const END_BYTES: u64 = 2 + 4;
/// What an object takes beside its file, in bytes: counted, so that many empty ones have a bound as well.
const ENTRY_BYTES: u64 = 512;

/// A name as the name of a file.
pub(super) fn digest(name: &str) -> String {
    hex::encode(Sha256::digest(name.as_bytes()))
}

/// What all scopes below a folder hold, in bytes.
pub(super) fn stored_bytes(root: &Path) -> u64 {
    let folders = |path: &Path| {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let scopes = folders(root).filter(|path| !path.ends_with(SPOOL));
    let objects = scopes
        .flat_map(|scope| folders(&scope).collect::<Vec<_>>())
        .flat_map(|c| folders(&c).collect::<Vec<_>>());
    objects
        .filter(|path| !path.ends_with(NAME))
        .filter_map(|path| Some(fs::metadata(path).ok()?.len() + ENTRY_BYTES))
        .sum()
}

/// The folder of one scope.
#[derive(Clone)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held while something changes, so that room is given back once.
    lock: Arc<Mutex<()>>,
}

/// The objects of a container, one after the other.
pub(super) struct Entries(ReadDir);

impl Folder {
    pub(super) fn new(path: PathBuf, lock: Arc<Mutex<()>>) -> Self {
        Self { path, lock }
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn container(&self, container: &str) -> PathBuf {
        self.path.join(digest(container))
    }

    fn object(&self, container: &str, object: &str) -> PathBuf {
        self.container(container).join(digest(object))
    }

    pub(super) fn create(&self, container: &str) -> Result<(), Error> {
        let _changing = self.changing();
        let folder = self.container(container);
        fs::create_dir_all(&folder)?;
        // The file makes the container: a folder without one was left by a run that ended in between.
        match File::options().write(true).create_new(true).open(folder.join(NAME)) {
            Ok(mut file) => {
                file.write_all(container.as_bytes())?;
                Ok(file.sync_all()?)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::ContainerExists(container.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn created(&self, container: &str) -> Result<Option<u64>, Error> {
        let found = if_there(fs::metadata(self.container(container).join(NAME)))?;
        Ok(found.as_ref().map(seconds))
    }

    pub(super) fn must_be_there(&self, container: &str) -> Result<(), Error> {
        match self.created(container)? {
            Some(_) => Ok(()),
            None => Err(Error::NoContainer(container.to_owned())),
        }
    }

    /// Removes a container; gives the room that it took.
    pub(super) fn remove(&self, container: &str) -> Result<u64, Error> {
        let _changing = self.changing();
        let folder = self.container(container);
        // The name goes first: half a removal leaves no container.
        if_there(fs::remove_file(folder.join(NAME)))?;
        let room = empty(&folder)?;
        if_there(fs::remove_dir(&folder))?;
        Ok(room)
    }

    /// Removes all objects; gives the room that they took.
    pub(super) fn empty(&self, container: &str) -> Result<u64, Error> {
        let _changing = self.changing();
        empty(&self.container(container))
    }

    pub(super) fn entries(&self, container: &str) -> Result<Entries, Error> {
        Ok(Entries(fs::read_dir(self.container(container))?))
    }

    /// An object's file, at its first byte.
    pub(super) fn open(&self, container: &str, object: &str) -> Result<Option<(File, ObjectInfo)>, Error> {
        let Some(mut file) = if_there(File::open(self.object(container, object)))? else {
            return Ok(None);
        };
        let (metadata, name) = (file.metadata()?, name_of(&mut file)?);
        let info = ObjectInfo {
            created_at: seconds(&metadata),
            size: metadata.len().saturating_sub(END_BYTES + name.len() as u64),
        };
        file.rewind()?;
        Ok(Some((file, info)))
    }

    /// Makes a written file an object; gives the room that the one before it took.
    pub(super) fn keep(&self, container: &str, object: &str, mut value: Spooled) -> Result<u64, Error> {
        let name = object.as_bytes();
        let bytes = u16::try_from(name.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        value.grow(name.len() as u64 + END_BYTES + ENTRY_BYTES)?;
        let mut file = File::options().append(true).open(value.path())?;
        file.write_all(&[name, &bytes.to_be_bytes(), MARK].concat())?;
        file.sync_all()?;
        let _changing = self.changing();
        let path = self.object(container, object);
        let before = room_of(&path)?;
        fs::rename(value.path(), &path)?;
        value.kept();
        // A rename is on disk when its folder is.
        File::open(self.container(container))?.sync_all()?;
        Ok(before)
    }

    /// Removes an object; gives the room that it took.
    pub(super) fn delete(&self, container: &str, object: &str) -> Result<u64, Error> {
        let _changing = self.changing();
        let path = self.object(container, object);
        let room = room_of(&path)?;
        if_there(fs::remove_file(&path))?;
        Ok(room)
    }
}

impl Entries {
    /// The next object's name. One that is removed meanwhile is passed over.
    pub(super) fn next_name(&mut self) -> Result<Option<String>, Error> {
        for entry in self.0.by_ref() {
            let entry = entry?;
            if entry.file_name() == NAME {
                continue;
            }
            if let Some(mut file) = if_there(File::open(entry.path()))? {
                return Ok(Some(name_of(&mut file)?));
            }
        }
        Ok(None)
    }
}

/// The name behind the bytes of an object.
fn name_of(file: &mut File) -> Result<String, Error> {
    let odd = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a file of the store was changed by somebody else",
        )
    };
    let bytes = file.metadata()?.len();
    if bytes < END_BYTES {
        return Err(odd().into());
    }
    let mut end = [0; END_BYTES as usize];
    file.seek(SeekFrom::Start(bytes - END_BYTES))?;
    file.read_exact(&mut end)?;
    let [high, low, mark @ ..] = end;
    let length = u16::from_be_bytes([high, low]);
    if mark != *MARK || bytes < END_BYTES + u64::from(length) {
        return Err(odd().into());
    }
    let mut name = vec![0; usize::from(length)];
    file.seek(SeekFrom::Start(bytes - END_BYTES - u64::from(length)))?;
    file.read_exact(&mut name)?;
    String::from_utf8(name).map_err(|_| odd().into())
}

fn empty(folder: &Path) -> Result<u64, Error> {
    let Some(entries) = if_there(fs::read_dir(folder))? else {
        return Ok(0);
    };
    let mut room = 0;
    for entry in entries {
        let path = entry?.path();
        if !path.ends_with(NAME) {
            room += room_of(&path)?;
            if_there(fs::remove_file(&path))?;
        }
    }
    Ok(room)
}

fn room_of(path: &Path) -> Result<u64, Error> {
    Ok(if_there(fs::metadata(path))?.map_or(0, |metadata| metadata.len() + ENTRY_BYTES))
}

fn if_there<T>(result: io::Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// When a file was written, in seconds since 1970.
fn seconds(metadata: &Metadata) -> u64 {
    let modified = metadata
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |since| since.as_secs())
}
