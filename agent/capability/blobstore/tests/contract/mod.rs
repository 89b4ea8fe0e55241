//! What every blob store promises, as checks that run against each of them. In: a way to open the store of a scope. Out:
//! nothing, or a panic with what is not as it should be.

use futures::{StreamExt as _, TryStreamExt as _};
use heddle_capability_blobstore::{Error, NAME_BYTES_MAX, Range, Spooled, Store};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Names that mean something to some server, shell or file system.
const NASTY: &[&str] = &[
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/",
    "/abs",
    "a/b",
    "a/",
    "a.b",
    "*",
    ">",
    "=",
    "name",
    "unfinished",
    "CON",
    "A",
    "a",
    "a b",
    "\0",
    "\r\n",
    "ä€😀",
    "\\..\\x",
];

/// A value that was written whole.
async fn value(store: &Store, bytes: &[u8]) -> Result<Spooled, Error> {
    let (mut file, mut spooled) = store.spool().create().await?;
    spooled.grow(bytes.len() as u64)?;
    file.write_all(bytes).await?;
    file.flush().await?;
    Ok(spooled)
}

async fn put(store: &Store, container: &str, object: &str, bytes: &[u8]) -> Result<(), Error> {
    store.write(container, object, value(store, bytes).await?).await
}

async fn part(store: &Store, container: &str, object: &str, start: u64, end: u64) -> Result<Vec<u8>, Error> {
    let mut reader = store.read(container, object, Range { start, end }).await?;
    let mut bytes = Vec::new();
    reader.bytes.read_to_end(&mut bytes).await?;
    assert_eq!(
        bytes.len() as u64,
        reader.size,
        "the size that was told is the size that came"
    );
    Ok(bytes)
}

async fn all(store: &Store, container: &str, object: &str) -> Result<Vec<u8>, Error> {
    part(store, container, object, 0, u64::MAX).await
}

async fn names(store: &Store, container: &str) -> Result<BTreeSet<String>, Error> {
    store.list(container).await?.try_collect().await
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Everything that can be checked of a store without a small quota. `scope` opens a scope of the same store.
pub async fn holds(scope: impl Fn(&str) -> Store) {
    containers_come_and_go(&scope("one")).await.unwrap();
    objects_are_replaced_read_in_parts_and_removed(&scope("one"))
        .await
        .unwrap();
    objects_are_copied_and_moved(&scope("moves")).await.unwrap();
    no_name_leaves_its_container_or_scope(&scope).await.unwrap();
    writers_of_one_name_leave_one_whole_object(&scope("race"))
        .await
        .unwrap();
}

async fn containers_come_and_go(store: &Store) -> Result<(), Error> {
    assert_eq!(store.container_created("c").await?, None);
    store.create_container("c").await?;
    assert!(store.container_created("c").await?.is_some_and(|at| at > 1_600_000_000));
    assert!(matches!(
        store.create_container("c").await,
        Err(Error::ContainerExists(_))
    ));
    assert!(names(store, "c").await?.is_empty());
    put(store, "c", "o", b"1").await?;
    put(store, "c", "p", b"2").await?;
    store.clear("c").await?;
    assert!(names(store, "c").await?.is_empty());
    assert!(store.container_created("c").await?.is_some());
    put(store, "c", "o", b"1").await?;
    store.delete_container("c").await?;
    store.delete_container("c").await?;
    assert_eq!(store.container_created("c").await?, None);
    assert!(matches!(names(store, "c").await, Err(Error::NoContainer(_))));
    assert!(matches!(put(store, "c", "o", b"1").await, Err(Error::NoContainer(_))));
    assert!(matches!(store.clear("c").await, Err(Error::NoContainer(_))));
    store.create_container("c").await?;
    assert!(names(store, "c").await?.is_empty(), "nothing comes back");
    assert!(matches!(
        store.create_container(&"c".repeat(256)).await,
        Err(Error::Name { .. })
    ));
    store.delete_container("c").await
}

async fn objects_are_replaced_read_in_parts_and_removed(store: &Store) -> Result<(), Error> {
    store.create_container("c").await?;
    assert_eq!(store.info("c", "o").await?, None);
    assert!(matches!(all(store, "c", "o").await, Err(Error::NoObject(_))));
    // More than one chunk, and not a whole number of them.
    let large: Vec<u8> = (0..300_001_u32).map(|i| (i % 251) as u8).collect();
    for bytes in [&b""[..], b"x", &large, b"shorter"] {
        put(store, "c", "o", bytes).await?;
        assert_eq!(all(store, "c", "o").await?, bytes);
        let info = store.info("c", "o").await?.unwrap();
        assert_eq!(info.size, bytes.len() as u64);
        assert!(info.created_at > 1_600_000_000);
    }
    put(store, "c", "o", &large).await?;
    assert_eq!(part(store, "c", "o", 131_070, 131_075).await?, large[131_070..=131_075]);
    assert_eq!(part(store, "c", "o", 299_999, 999_999).await?, large[299_999..]);
    assert_eq!(part(store, "c", "o", 300_001, 300_001).await?, b"");
    // A value that is never written to its name leaves nothing.
    drop(value(store, &large).await?);
    assert_eq!(names(store, "c").await?, set(&["o"]));
    let longest = "ä".repeat(NAME_BYTES_MAX / 2);
    put(store, "c", &longest, b"1").await?;
    assert_eq!(all(store, "c", &longest).await?, b"1");
    assert!(matches!(
        put(store, "c", &"n".repeat(NAME_BYTES_MAX + 1), b"1").await,
        Err(Error::Name { .. })
    ));
    store.delete("c", "o").await?;
    store.delete("c", "o").await?;
    assert_eq!(store.info("c", "o").await?, None);
    assert_eq!(names(store, "c").await?.len(), 1);
    store.delete_container("c").await
}

async fn objects_are_copied_and_moved(store: &Store) -> Result<(), Error> {
    store.create_container("a").await?;
    store.create_container("b").await?;
    put(store, "a", "o", b"first").await?;
    put(store, "b", "o", b"second").await?;
    store.copy(("a", "o"), ("b", "o")).await?;
    assert_eq!(all(store, "b", "o").await?, b"first");
    store.rename(("b", "o"), ("a", "moved")).await?;
    assert_eq!(all(store, "a", "moved").await?, b"first");
    assert!(names(store, "b").await?.is_empty());
    store.rename(("a", "o"), ("a", "o")).await?;
    assert_eq!(names(store, "a").await?, set(&["moved", "o"]));
    assert!(matches!(
        store.copy(("a", "none"), ("b", "o")).await,
        Err(Error::NoObject(_))
    ));
    assert!(matches!(
        store.rename(("a", "o"), ("none", "o")).await,
        Err(Error::NoContainer(_))
    ));
    assert_eq!(
        all(store, "a", "o").await?,
        b"first",
        "what could not be moved is still there"
    );
    Ok(())
}

async fn no_name_leaves_its_container_or_scope(scope: &impl Fn(&str) -> Store) -> Result<(), Error> {
    let a = scope("a");
    for container in NASTY {
        a.create_container(container).await?;
        put(&a, container, "only here", container.as_bytes()).await?;
    }
    a.create_container("all").await?;
    for object in NASTY {
        put(&a, "all", object, object.as_bytes()).await?;
    }
    for container in NASTY {
        assert_eq!(
            names(&a, container).await?,
            set(&["only here"]),
            "container {container:?}"
        );
        assert_eq!(all(&a, container, "only here").await?, container.as_bytes());
    }
    assert_eq!(names(&a, "all").await?, set(NASTY));
    for object in NASTY {
        assert_eq!(all(&a, "all", object).await?, object.as_bytes());
    }
    for other in ["b", "", "../a"] {
        let other = scope(other);
        for container in NASTY.iter().chain(&["all"]) {
            assert_eq!(
                other.container_created(container).await?,
                None,
                "another scope sees {container:?}"
            );
            other.delete_container(container).await?;
        }
    }
    a.delete_container("*").await?;
    assert_eq!(names(&a, "all").await?, set(NASTY), "another scope removed something");
    Ok(())
}

async fn writers_of_one_name_leave_one_whole_object(store: &Store) -> Result<(), Error> {
    store.create_container("c").await?;
    let writers = (0..8_u8).map(|i| {
        let store = store.clone();
        tokio::spawn(async move { put(&store, "c", "o", &vec![i; 200_000]).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap()?;
    }
    let bytes = all(store, "c", "o").await?;
    assert_eq!(bytes.len(), 200_000);
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixture of two writers");
    Ok(())
}

/// A store with room for a little over a megabyte says so when it is full, and has room again when something goes.
pub async fn keeps_its_quota(store: &Store) {
    let fill = vec![7; 300_000];
    store.create_container("c").await.unwrap();
    let mut stored = 0;
    let refused = loop {
        match put(store, "c", &stored.to_string(), &fill).await {
            Ok(()) => stored += 1,
            Err(refused) => break refused,
        }
        assert!(stored < 5, "the store takes more than it may");
    };
    assert!(matches!(refused, Error::Full(_)), "{refused}");
    assert!(stored >= 2, "the store takes {stored} objects only");
    assert_eq!(
        names(store, "c").await.unwrap().len(),
        stored,
        "what was refused left something"
    );
    store.delete("c", "0").await.unwrap();
    put(store, "c", "again", &fill).await.unwrap();
    put(store, "c", "again", &fill[..1_000]).await.unwrap();
    store.clear("c").await.unwrap();
    put(store, "c", "0", &fill).await.unwrap();
    assert_eq!(all(store, "c", "0").await.unwrap(), fill);
}

/// An object of 100 MiB goes in and out while the process grows by a small part of that.
pub async fn streams_what_is_large(store: &Store) {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 100;
    store.create_container("large").await.unwrap();
    let before = resident();
    let (mut file, mut spooled) = store.spool().create().await.unwrap();
    for i in 0..PIECES {
        spooled.grow(PIECE as u64).unwrap();
        file.write_all(&vec![i as u8; PIECE]).await.unwrap();
    }
    file.flush().await.unwrap();
    store.write("large", "o", spooled).await.unwrap();
    store.copy(("large", "o"), ("large", "p")).await.unwrap();
    let mut reader = store.read("large", "p", Range::ALL).await.unwrap();
    assert_eq!(reader.size, (PIECES * PIECE) as u64);
    let mut piece = vec![0; PIECE];
    for i in 0..PIECES {
        reader.bytes.read_exact(&mut piece).await.unwrap();
        assert!(piece.iter().all(|byte| *byte == i as u8), "piece {i}");
    }
    assert_eq!(reader.bytes.read(&mut piece).await.unwrap(), 0);
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "the process grew by {} MiB", grown >> 20);
}

/// The highest resident size of this process so far, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The list of a container that others change meanwhile ends.
#[allow(dead_code, reason = "only where listing is lazy")]
pub async fn lists_while_others_change(store: &Store) {
    store.create_container("c").await.unwrap();
    for i in 0..50 {
        put(store, "c", &i.to_string(), b"x").await.unwrap();
    }
    let mut list = store.list("c").await.unwrap();
    list.next().await.unwrap().unwrap();
    store.clear("c").await.unwrap();
    assert!(list.try_collect::<Vec<_>>().await.unwrap().len() < 50);
}
