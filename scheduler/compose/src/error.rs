//! Why parts do not fit, as data that prints as sentences.

use crate::Link;
use std::fmt;

/// Names listed in one sentence.
const NAMES_MAX: usize = 8;

/// The two ends of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The part that imports.
    pub from: String,
    /// What it imports.
    pub import: String,
    /// The part that exports.
    pub to: String,
    /// What it exports.
    pub export: String,
}

impl Ends {
    pub(crate) fn of(link: &Link<'_>) -> Box<Self> {
        Box::new(Self {
            from: link.from.to_owned(),
            import: link.import.to_owned(),
            to: link.to.to_owned(),
            export: link.export.to_owned(),
        })
    }
}

/// Why components cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// There is more than one composition may have.
    #[error(
        "failed to compose: {parts} parts with {links} links and {bytes} bytes are more than one component may be made \
         of; link some of them with `via: wrpc` instead"
    )]
    TooLarge {
        /// Parts.
        parts: usize,
        /// Links.
        links: usize,
        /// Bytes of all parts.
        bytes: usize,
    },
    /// The entry or an end of a link is no part.
    #[error("failed to compose: there is no part {0:?}")]
    NoPart(String),
    /// A part cannot be read.
    #[error("failed to compose: component {part} cannot be read: {why}")]
    Unreadable {
        /// The part.
        part: String,
        /// Why not.
        why: String,
    },
    /// Parts call each other in a circle.
    #[error(
        "failed to compose: the local links form a cycle, {}; make one of them `via: wrpc`, or merge the components",
        .0.join(" → ")
    )]
    Cycle(Vec<String>),
    /// A part does not import what a link or a new name speaks of.
    #[error(
        "failed to link {import} of component {part}: it does not import that; {}",
        Names("it imports", near)
    )]
    NoImport {
        /// The part.
        part: String,
        /// What it does not import.
        import: String,
        /// What it does.
        near: Vec<String>,
    },
    /// A part does not export what a link asks for.
    #[error(
        "failed to link {} of component {} to component {}: that does not export {}; {}",
        .link.import, .link.from, .link.to, .link.export, Names("it exports", .near)
    )]
    NoExport {
        /// The link.
        link: Box<Ends>,
        /// What it does.
        near: Vec<String>,
    },
    /// One import is linked twice.
    #[error("failed to link {import} of component {part}: it is linked twice; keep one of the two links")]
    Twice {
        /// The part.
        part: String,
        /// The import.
        import: String,
    },
    /// The interface lacks functions or types that the caller imports.
    #[error(
        "failed to link {} of component {} to component {}: its {} lacks {}; {}; build both against the same version of the \
         interface",
        .link.import, .link.from, .link.to, .link.export, .missing.join(", "), Names("it has", .near)
    )]
    Lacks {
        /// The link.
        link: Box<Ends>,
        /// What is missing in it.
        missing: Vec<String>,
        /// What is there.
        near: Vec<String>,
    },
    /// The two sides of a link have different types.
    #[error(
        "failed to link {} of component {} to {} of component {}: the types differ: {why}; build both against the same version \
         of the interface",
        .link.import, .link.from, .link.export, .link.to
    )]
    Types {
        /// The link.
        link: Box<Ends>,
        /// What differs.
        why: String,
    },
    /// The two sides of a link mean different resources by one name.
    #[error(
        "failed to link {} of component {} to component {}: resource `{resource}` is not the same on both sides: for {} it is \
         {from_origin}, for {} it is {to_origin}; {next}",
        .link.import, .link.from, .link.to, .link.from, .link.to
    )]
    Resource {
        /// The link.
        link: Box<Ends>,
        /// The resource.
        resource: String,
        /// Whose it is for the one.
        from_origin: String,
        /// Whose it is for the other.
        to_origin: String,
        /// What helps.
        next: String,
    },
    /// Parts import one interface with types that cannot be one.
    #[error(
        "failed to compose: components {first} and {second} both import {import}, with different types: {why}; build \
         both against the same version of it"
    )]
    Merge {
        /// The import.
        import: String,
        /// One part.
        first: String,
        /// Another part.
        second: String,
        /// What differs.
        why: String,
    },
    /// The whole is not a valid component, or not the one that was meant.
    #[error("failed to compose: the whole would not be valid: {0}")]
    Invalid(String),
    /// A part has a shape that composing cannot handle.
    #[error(
        "failed to compose: a component has a shape that cannot be composed: {0}; link it with `via: wrpc` instead"
    )]
    Unsupported(String),
}

/// Names after a few words, or that there are none.
pub(crate) struct Names<'a>(pub(crate) &'a str, pub(crate) &'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(words, names) = self;
        match names.len() {
            0 => write!(f, "{words} nothing"),
            1..=NAMES_MAX => write!(f, "{words} {}", names.join(", ")),
            n => {
                let more = n - NAMES_MAX;
                write!(f, "{words} {} and {more} more", names[..NAMES_MAX].join(", "))
            }
        }
    }
}
