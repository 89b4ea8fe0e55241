//! Manifests from files, folders and stdin, and the images that they name.
//!
//! In: what `-f` names. Out: documents that keep every rule that can be checked without a fleet, or all problems; and
//! the `file:` images, read here and nowhere else (D21), by digest.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::progress::Progress;
use heddle_protocol::api::artifact::{ArtifactHas, ArtifactPut};
use heddle_protocol::defaults::ARTIFACT_BYTES_MAX;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::Namespace;
use heddle_protocol::manifest::{self, Document, FieldPath, Object, Problem};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rule that a `file:` image breaks if its file cannot be used.
const IMAGE_FILE: &str = "image-file";
/// What is read of one file: one byte more than a manifest may have, so that a longer one is noticed.
const READ_BYTES_MAX: u64 = manifest::TEXT_BYTES_MAX as u64 + 1;
/// How a component starts: the magic, then the version of the component format.
const COMPONENT_MAGIC: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// How a core module starts.
const MODULE_MAGIC: [u8; 8] = *b"\0asm\x01\0\0\0";

/// The flag that names manifests.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SourceArgs {
    /// A manifest, a folder of manifests (*.yaml, *.yml, *.json), or - for stdin; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// A document and the folder that its `file:` images are relative to.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The document.
    pub document: Document,
    folder: Arc<Path>,
}

/// Reads and checks every manifest: shape, meaning, and whether this release runs it.
pub fn load(files: &[PathBuf]) -> Result<Vec<Loaded>, Failure> {
    let mut texts = Vec::new();
    for file in files {
        read_texts(file, &mut texts)?;
    }
    check(&texts)
}

struct Text {
    name: String,
    folder: Arc<Path>,
    bytes: Vec<u8>,
}

fn read_texts(file: &Path, texts: &mut Vec<Text>) -> Result<(), Failure> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(READ_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| Failure::file("read manifest from", Path::new("stdin"), &error))?;
        texts.push(Text {
            name: "stdin".to_owned(),
            folder: Path::new(".").into(),
            bytes,
        });
        return Ok(());
    }
    if !file.is_dir() {
        texts.push(read_text(file)?);
        return Ok(());
    }
    let entries = std::fs::read_dir(file).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(|error| Failure::file("read folder", file, &error))?;
    let is_manifest = |path: &PathBuf| {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        ["yaml", "yml", "json"].contains(&ending) && path.is_file()
    };
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(is_manifest)
        .collect();
    paths.sort();
    if paths.is_empty() {
        let message = format!("failed to find a manifest in {}", file.display());
        return Err(Failure::new(
            Exit::Failed,
            message,
            "a folder's manifests end in .yaml, .yml or .json",
        ));
    }
    for path in &paths {
        texts.push(read_text(path)?);
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<Text, Failure> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(READ_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| Failure::file("read manifest", path, &error))?;
    let folder = path.parent().unwrap_or(Path::new(".")).into();
    Ok(Text {
        name: path.display().to_string(),
        folder,
        bytes,
    })
}

/// All problems of all texts at once; objects that stand in two files are found too.
fn check(texts: &[Text]) -> Result<Vec<Loaded>, Failure> {
    let (mut loaded, mut problems) = (Vec::new(), Vec::new());
    for text in texts {
        match manifest::load(&text.bytes, &text.name) {
            Ok(documents) => {
                loaded.extend(documents.into_iter().map(|document| Loaded {
                    document,
                    folder: text.folder.clone(),
                }));
            }
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() && texts.len() > 1 {
        let documents: Vec<Document> = loaded.iter().map(|l| l.document.clone()).collect();
        problems.extend(manifest::validate(&documents));
    }
    problems.extend(loaded.iter().flat_map(|l| manifest::unsupported(&l.document)));
    if problems.is_empty() {
        Ok(loaded)
    } else {
        Err(Failure::invalid_manifest(problems))
    }
}

/// The namespace of all the documents, if they have one between them.
pub fn namespace(loaded: &[Loaded]) -> Namespace {
    let mut namespaces = loaded.iter().filter_map(|l| l.document.object.namespace());
    let first = namespaces.next();
    match first {
        Some(first) if namespaces.all(|other| other == first) => {
            Namespace::parse(first).unwrap_or_else(|_| Namespace::fallback())
        }
        _ => Namespace::fallback(),
    }
}

/// Local images, by digest.
pub type Images = BTreeMap<Digest, PathBuf>;

/// Puts the digest of each `file:` image in its place, and returns the files.
pub fn resolve_images(loaded: &mut [Loaded]) -> Result<Images, Failure> {
    let (mut images, mut problems, mut known) = (Images::new(), Vec::new(), BTreeMap::new());
    for Loaded { document, folder } in loaded.iter_mut() {
        let origin = document.clone();
        let Object::Workload(workload) = &mut document.object else {
            continue;
        };
        for (at, component) in workload.spec.components.iter_mut().enumerate() {
            let Some(path) = component.image.strip_prefix("file:") else {
                continue;
            };
            let path = folder.join(path);
            let digest = known.entry(path.clone()).or_insert_with(|| digest_of(&path));
            match digest {
                Ok(digest) => {
                    component.image = digest.to_string();
                    images.insert(*digest, path);
                }
                Err(why) => {
                    let field = FieldPath::spec().key("components").index(at).key("image");
                    problems.push(origin.problem(&field, IMAGE_FILE, why.clone()));
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(images)
    } else {
        Err(Failure::invalid_manifest(problems))
    }
}

fn digest_of(path: &Path) -> Result<Digest, String> {
    read_image(path).map(|bytes| Digest::of(&bytes))
}

fn read_image(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(ARTIFACT_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("the file {shown} cannot be read: {error}; build the component, or mend the path"))?;
    if bytes.len() as u64 > ARTIFACT_BYTES_MAX {
        return Err(format!(
            "the file {shown} is larger than {} MiB",
            ARTIFACT_BYTES_MAX >> 20
        ));
    }
    if bytes.starts_with(&COMPONENT_MAGIC) {
        return Ok(bytes);
    }
    Err(match bytes.starts_with(&MODULE_MAGIC) {
        true => format!("the file {shown} is a core module; make a component of it with `wasm-tools component new`"),
        false => format!("the file {shown} is no WebAssembly component"),
    })
}

/// Uploads the images that the fleet lacks.
pub async fn upload(fleet: &Fleet, images: &Images) -> Result<(), Failure> {
    if images.is_empty() {
        return Ok(());
    }
    let missing = fleet
        .ask(&ArtifactHas {
            digests: images.keys().copied().collect(),
        })
        .await?
        .missing;
    let all = missing.len();
    for (at, digest) in missing.into_iter().enumerate() {
        let Some(path) = images.get(&digest) else { continue };
        let bytes = read_image(path).map_err(|why| Failure::new(Exit::Failed, why, ""))?;
        if Digest::of(&bytes) != digest {
            let message = format!("failed to upload {}: the file changed meanwhile", path.display());
            return Err(Failure::new(
                Exit::Failed,
                message,
                "run the command again when the file is complete",
            ));
        }
        let text = format!(
            "uploading {} ({} of {all}, {} KiB)",
            path.display(),
            at + 1,
            bytes.len() >> 10
        );
        Progress::during(&text, fleet.ask_with(&ArtifactPut { digest }, &bytes)).await?;
    }
    Ok(())
}

/// The documents in canonical JSON, as the API takes them.
pub fn canonical(loaded: &[Loaded]) -> Vec<serde_json::Value> {
    loaded.iter().map(|l| l.document.object.canonical_value()).collect()
}

/// Puts the places in the files to problems that the scheduler found: it saw objects, not text.
pub fn place(mut failure: Failure, loaded: &[Loaded]) -> Failure {
    let ours = |problem: &Problem| loaded.iter().any(|l| *l.document.source == *problem.source);
    for problem in failure.problems.iter_mut().filter(|problem| !ours(problem)) {
        let Some(document) = loaded
            .iter()
            .map(|l| &l.document)
            .find(|d| d.object.to_string() == problem.object)
        else {
            continue;
        };
        problem.source = document.source.to_string();
        let at = document.position(&read_path(&problem.path));
        (problem.line, problem.column) = at.map_or((0, 0), |at| (at.line, at.column));
    }
    failure
}

/// Reads a path as problems print it: `spec.links[2].import`, `spec.hosts["heddle.dev/arch"]`. What cannot be read ends
/// it: a place further out is still a place.
fn read_path(text: &str) -> FieldPath {
    let mut path = FieldPath::root();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let Some((key, after)) = quoted.split_once("\"]") else {
                return path;
            };
            (path, rest) = (path.entry(key), after);
        } else if let Some(number) = rest.strip_prefix('[') {
            let Some((index, after)) = number.split_once(']') else {
                return path;
            };
            let Ok(index) = index.parse() else { return path };
            (path, rest) = (path.index(index), after);
        } else {
            let plain = rest.strip_prefix('.').unwrap_or(rest);
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            if end == 0 {
                return path;
            }
            (path, rest) = (path.entry(&plain[..end]), &plain[end..]);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, image: &str) -> String {
        format!(
            "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  components: [{{ name: api, image: \"{image}\" }}]\n"
        )
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[test]
    fn images_are_read_beside_the_manifest_and_named_by_digest() {
        let text = workload("web", "file:./web.wasm");
        let folder = folder(&[("web.yaml", text.as_bytes()), ("web.wasm", &COMPONENT_MAGIC)]);
        let mut loaded = load(&[folder.path().join("web.yaml")]).unwrap();
        let images = resolve_images(&mut loaded).unwrap();
        let digest = Digest::of(&COMPONENT_MAGIC);
        assert!(images.contains_key(&digest));
        let json = canonical(&loaded);
        assert_eq!(json[0]["spec"]["components"][0]["image"], digest.to_string());
    }

    #[test]
    fn an_image_that_cannot_be_used_is_a_problem_with_a_place() {
        let cases: [(&[u8], &str); 3] = [
            (&MODULE_MAGIC, "is a core module"),
            (b"hello", "is no WebAssembly component"),
            (b"", "no WebAssembly"),
        ];
        for (bytes, why) in cases {
            let text = workload("web", "file:web.wasm");
            let folder = folder(&[("web.yaml", text.as_bytes()), ("web.wasm", bytes)]);
            let failure = resolve_images(&mut load(&[folder.path().join("web.yaml")]).unwrap()).unwrap_err();
            assert_eq!(failure.exit, Exit::InvalidManifest);
            let problem = &failure.problems[0];
            assert!(problem.message.contains(why), "{problem}");
            assert_eq!((problem.line, problem.path.as_str()), (5, "spec.components[0].image"));
        }
    }

    #[test]
    fn a_folder_s_manifests_are_one_change_and_may_not_clash() {
        let (a, b) = (workload("web", "file:w"), workload("web", "file:w"));
        let clash = folder(&[
            ("a.yaml", a.as_bytes()),
            ("b.yml", b.as_bytes()),
            ("c.txt", b"not ours"),
        ]);
        let failure = load(&[clash.path().to_owned()]).unwrap_err();
        assert_eq!(failure.problems[0].rule, "duplicate-object", "{}", failure.problems[0]);
        let empty = folder(&[]);
        assert_eq!(load(&[empty.path().to_owned()]).unwrap_err().exit, Exit::Failed);
    }

    #[test]
    fn paths_of_problems_are_read_back() {
        for text in [
            "spec.links[2].to.component",
            "spec.hosts[\"heddle.dev/arch\"].in",
            "spec",
            "",
        ] {
            assert_eq!(read_path(text).to_string(), text);
        }
        assert_eq!(read_path("spec.links[x].to").to_string(), "spec.links");
    }

    #[test]
    fn problems_that_the_scheduler_found_get_their_place_in_the_file() {
        let text = workload("web", "file:web.wasm");
        let folder = folder(&[("web.yaml", text.as_bytes())]);
        let loaded = load(&[folder.path().join("web.yaml")]).unwrap();
        let mut document = loaded[0].document.clone();
        document = Document::new("request", document.object);
        let field = FieldPath::spec().key("components").index(0).key("name");
        let failure = Failure::invalid_manifest(vec![document.problem(&field, "import-unmet", "nothing meets it")]);
        let placed = place(failure, &loaded);
        assert_eq!(placed.problems[0].line, 5, "{}", placed.problems[0]);
        assert!(placed.problems[0].source.ends_with("web.yaml"));
    }

    #[test]
    fn a_missing_manifest_is_named_with_the_next_thing_to_try() {
        let failure = load(&["/nonexistent/web.yaml".into()]).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.contains("/nonexistent/web.yaml") && !failure.next.is_empty());
    }
}
