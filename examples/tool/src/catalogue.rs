//! What there is to build: the only list of guests. A new guest is a line here.

/// Guests that are built together from one folder.
pub(crate) struct Group {
    /// Name in the cache.
    pub(crate) name: &'static str,
    /// The sources, relative to the clone.
    pub(crate) folder: &'static str,
    /// Everything whose change makes the guests other, relative to the clone.
    pub(crate) inputs: &'static [&'static str],
    /// How they are built.
    pub(crate) language: Language,
    /// The components that come out.
    pub(crate) components: &'static [&'static str],
}

pub(crate) enum Language {
    /// A cargo workspace; each component is a `cdylib` of that name.
    Rust,
    /// One `main.c` against the bindings of a world of [`WIT`]; one component.
    C { world: &'static str },
    /// One Go package that writes out the calling convention of a world of [`WIT`]; one component.
    Go { world: &'static str },
    /// One `greeter.js` that exports a world of [`WIT`]; one component.
    Js { world: &'static str },
}

/// The interfaces that guests are written against.
pub(crate) const WIT: &str = "examples/guests/wit";

/// This program's own sources: another recipe makes other components.
const TOOL: &str = "examples/tool";

pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "examples",
        folder: "examples/guests",
        inputs: &["examples/guests", TOOL],
        language: Language::Rust,
        components: &[
            "hello",
            "counter",
            "hello-p3",
            "ledger",
            "notes",
            "orders",
            "report",
            "tick",
            "vaulted",
            "watch",
            "greeter",
            "storefront",
            "till",
        ],
    },
    Group {
        name: "tests",
        folder: "tests/guests",
        inputs: &["tests/guests", WIT, TOOL],
        language: Language::Rust,
        components: &["hostile", "p3-caller", "p3-hostile", "p3-shout", "probe-v1", "probe-v2"],
    },
    Group {
        name: "c-hello",
        folder: "examples/c-hello",
        inputs: &["examples/c-hello", WIT, TOOL],
        language: Language::C { world: "http-handler" },
        components: &["c-hello"],
    },
    Group {
        name: "go-greeter",
        folder: "examples/go-greeter",
        inputs: &["examples/go-greeter", WIT, TOOL],
        language: Language::Go { world: "greeter" },
        components: &["go-greeter"],
    },
    Group {
        name: "js-greeter",
        folder: "examples/js-greeter",
        inputs: &["examples/js-greeter", WIT, TOOL],
        language: Language::Js { world: "greeter" },
        components: &["js-greeter"],
    },
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn manifest(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
        fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn the_manifest_of_all_examples_is_the_single_ones_together() {
        let all = manifest("all.yaml");
        let parts = ["platform.yaml", "hello.yaml", "counter.yaml", "c-hello.yaml"].map(manifest);
        assert!(
            all.ends_with(&parts.join("---\n")),
            "examples/manifests/all.yaml differs from the files it is made of"
        );
    }

    #[test]
    fn every_image_of_the_examples_is_a_component_that_is_built() {
        for line in manifest("all.yaml").lines().filter(|line| line.contains("image:")) {
            let file = line.rsplit('/').next().unwrap().trim_end_matches('"');
            let built = GROUPS
                .iter()
                .flat_map(|group| group.components)
                .any(|name| file == format!("{name}.wasm"));
            assert!(built, "{line}: no guest is built under this name");
        }
    }
}
