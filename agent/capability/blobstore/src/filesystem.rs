//! Blob stores in folders of the host: `<data>/blobstore/<path>/<scope>/<container>/<object>`.
//!
//! In: an offer with a folder and a quota. Out: stores. The last three parts are digests of what guests call things, so
//! no name leaves its folder, however long or odd. The name itself stands behind an object's bytes in the same file: one
//! rename makes both appear. What is stored outlives agents and offers; whoever removes the platform's capability
//! removes the folder when its data is to go, too.

mod files;

use crate::backend::{Blobs, Error, ObjectInfo, Range, Reader, Store, check_container, check_object};
use crate::lend::{LentStore, wrong};
use crate::spool::{Spool, Spooled};
use async_trait::async_trait;
use files::Folder;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use heddle_capability::{Capability, CapabilityError, Lending, Lent};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// Lends blob stores in folders of the host.
#[derive(Default)]
pub struct BlobstoreFilesystem {
    /// The room of each folder: two offers of one folder share it.
    spools: Mutex<HashMap<PathBuf, Arc<Spool>>>,
}

impl BlobstoreFilesystem {
    pub(crate) fn lend(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<LentStore, CapabilityError> {
        let CapabilityOffer::BlobstoreFilesystem {
            path,
            quota_bytes,
            shared,
        } = offer
        else {
            return Err(CapabilityError::OtherKind {
                name: name.clone(),
                feature: Feature::BLOBSTORE_FILESYSTEM,
            });
        };
        let path = Path::new(path);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if path.as_os_str().is_empty() || !inside {
            return Err(wrong(
                name,
                "its `path` leaves the agent's data folder; write a relative one without `..`",
            ));
        }
        let root = lending.data.join("blobstore").join(path);
        let spool = self
            .spool(&root, *quota_bytes)
            .map_err(|e| wrong(name, e.to_string()))?;
        let lock = Arc::default();
        Ok(LentStore {
            scope: Box::new(move |scope| -> Store {
                Arc::new(Scope {
                    folder: Folder::new(root.join(files::digest(scope)), Arc::clone(&lock)),
                    spool: Arc::clone(&spool),
                })
            }),
            shared: *shared,
        })
    }

    fn spool(&self, root: &Path, quota: Option<u64>) -> Result<Arc<Spool>, Error> {
        let mut spools = self.spools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spool) = spools.get(root) {
            spool.set_quota(quota);
            return Ok(Arc::clone(spool));
        }
        let stored = root.to_owned();
        let spool = Spool::open(root.join(files::SPOOL), quota, move || files::stored_bytes(&stored))?;
        spools.insert(root.to_owned(), Arc::clone(&spool));
        Ok(spool)
    }
}

impl Capability for BlobstoreFilesystem {
    fn feature(&self) -> Feature {
        Feature::BLOBSTORE_FILESYSTEM
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        Ok(Arc::new(self.lend(name, offer, lending)?))
    }
}

struct Scope {
    folder: Folder,
    spool: Arc<Spool>,
}

impl Scope {
    /// Does something with files on a thread that may wait for them.
    async fn files<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Folder, &Arc<Spool>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.spool.ready().await?;
        let (folder, spool) = (self.folder.clone(), Arc::clone(&self.spool));
        let done = tokio::task::spawn_blocking(move || act(&folder, &spool)).await;
        done.map_err(|ended| Error::Unavailable(ended.to_string()))?
    }
}

#[async_trait]
impl Blobs for Scope {
    fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    async fn create_container(&self, container: &str) -> Result<(), Error> {
        check_container(container)?;
        let container = container.to_owned();
        self.files(move |folder, _| folder.create(&container)).await
    }

    async fn container_created(&self, container: &str) -> Result<Option<u64>, Error> {
        let container = container.to_owned();
        self.files(move |folder, _| folder.created(&container)).await
    }

    async fn delete_container(&self, container: &str) -> Result<(), Error> {
        let container = container.to_owned();
        self.files(move |folder, spool| {
            spool.give_back(folder.remove(&container)?);
            Ok(())
        })
        .await
    }

    async fn clear(&self, container: &str) -> Result<(), Error> {
        let container = container.to_owned();
        self.files(move |folder, spool| {
            folder.must_be_there(&container)?;
            spool.give_back(folder.empty(&container)?);
            Ok(())
        })
        .await
    }

    async fn list(&self, container: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        let container = container.to_owned();
        let entries = self
            .files(move |folder, _| {
                folder.must_be_there(&container)?;
                folder.entries(&container)
            })
            .await?;
        // The folder is read as the guest asks for more; each name is at the end of its file.
        let names = stream::try_unfold(entries, |mut entries| async move {
            let read = tokio::task::spawn_blocking(move || Ok(entries.next_name()?.map(|name| (name, entries)))).await;
            read.map_err(|ended| Error::Unavailable(ended.to_string()))?
        });
        Ok(names.boxed())
    }

    async fn info(&self, container: &str, object: &str) -> Result<Option<ObjectInfo>, Error> {
        let (container, object) = (container.to_owned(), object.to_owned());
        self.files(move |folder, _| Ok(folder.open(&container, &object)?.map(|(_, info)| info)))
            .await
    }

    async fn read(&self, container: &str, object: &str, range: Range) -> Result<Reader, Error> {
        let (place, name) = (container.to_owned(), object.to_owned());
        let found = self.files(move |folder, _| folder.open(&place, &name)).await?;
        let (file, info) = found.ok_or_else(|| Error::NoObject(object.to_owned()))?;
        let size = range.bytes_of(info.size);
        let mut file = tokio::fs::File::from_std(file);
        file.seek(std::io::SeekFrom::Start(range.start.min(info.size))).await?;
        Ok(Reader {
            size,
            // The file stays open: what replaces the object is another one.
            bytes: Box::new(file.take(size)),
        })
    }

    async fn write(&self, container: &str, object: &str, value: Spooled) -> Result<(), Error> {
        check_object(object)?;
        let (container, object) = (container.to_owned(), object.to_owned());
        self.files(move |folder, spool| {
            folder.must_be_there(&container)?;
            spool.give_back(folder.keep(&container, &object, value)?);
            Ok(())
        })
        .await
    }

    async fn delete(&self, container: &str, object: &str) -> Result<(), Error> {
        let (container, object) = (container.to_owned(), object.to_owned());
        self.files(move |folder, spool| {
            spool.give_back(folder.delete(&container, &object)?);
            Ok(())
        })
        .await
    }

    async fn copy(&self, from: (&str, &str), to: (&str, &str)) -> Result<(), Error> {
        let mut reader = self.read(from.0, from.1, Range::ALL).await?;
        let (mut file, mut spooled) = self.spool.create().await?;
        spooled.grow(reader.size)?;
        tokio::io::copy(&mut reader.bytes, &mut file).await?;
        file.sync_data().await?;
        self.write(to.0, to.1, spooled).await
    }

    async fn rename(&self, from: (&str, &str), to: (&str, &str)) -> Result<(), Error> {
        if from == to {
            let there = self.info(from.0, from.1).await?;
            return there.map(drop).ok_or_else(|| Error::NoObject(from.1.to_owned()));
        }
        self.copy(from, to).await?;
        self.delete(from.0, from.1).await
    }
}
