//! The two components that call each other, written by hand so that nothing but the call takes time.
//!
//! The caller exports `run`: for each kind of argument a function that calls the callee so many times, with so many
//! bytes. The callee answers how much it got.

use anyhow::Result;

/// The interface between the two.
pub const SINK: &str = "bench:links/sink@1.0.0";
/// The interface of the caller's loops.
pub const RUN: &str = "bench:links/run@1.0.0";

/// An argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    U32,
    /// Text of 16 bytes.
    Str16,
    /// Text of 1 KiB.
    Str1k,
    /// A list of 1 KiB.
    Bytes1k,
    /// A list of 64 KiB.
    Bytes64k,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::U32, Self::Str16, Self::Str1k, Self::Bytes1k, Self::Bytes64k];

    /// As it stands in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::U32 => "u32",
            Self::Str16 => "str16",
            Self::Str1k => "str1k",
            Self::Bytes1k => "bytes1k",
            Self::Bytes64k => "bytes64k",
        }
    }

    /// The caller's function.
    pub fn function(self) -> &'static str {
        match self {
            Self::U32 => "u",
            Self::Str16 | Self::Str1k => "s",
            Self::Bytes1k | Self::Bytes64k => "b",
        }
    }

    /// How many bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::U32 => 4,
            Self::Str16 => 16,
            Self::Str1k | Self::Bytes1k => 1 << 10,
            Self::Bytes64k => 64 << 10,
        }
    }
}

/// The interface: name and type.
const FUNCTIONS: [(&str, &str); 3] = [
    ("u", r#"(param "v" u32) (result u32)"#),
    ("s", r#"(param "v" string) (result u32)"#),
    ("b", r#"(param "v" (list u8)) (result u32)"#),
];

// Arguments arrive where the ones before them lay: a callee that is called a million times must not run out of memory.
const CALLEE: &str = r#"
    (core module $code
        (memory (export "memory") 3)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
        (func (export "u") (param i32) (result i32) (local.get 0))
        (func (export "s") (param i32 i32) (result i32) (local.get 1))
        (func (export "b") (param i32 i32) (result i32) (local.get 1)))
    (core instance $main (instantiate $code))
    (alias core export $main "memory" (core memory $m))
    (alias core export $main "realloc" (core func $realloc))"#;

fn callee_text(name: &str) -> String {
    let lift = |(f, ty): (&str, &str)| {
        format!(r#"(func ${f} {ty} (canon lift (core func $main "{f}") (memory $m) (realloc $realloc)))"#)
    };
    let lifted: String = FUNCTIONS.into_iter().map(lift).collect();
    format!(
        r#"(component {name} {CALLEE} {lifted}
            (instance $out (export "u" (func $u)) (export "s" (func $s)) (export "b" (func $b)))
            (export "{SINK}" (instance $out)))"#
    )
}

fn caller_text(name: &str) -> String {
    let declare = |(f, ty): (&str, &str)| format!(r#"(export "{f}" (func {ty}))"#);
    let declared: String = FUNCTIONS.into_iter().map(declare).collect();
    let lower = |(f, _): (&str, &str)| format!(r#"(core func $l{f} (canon lower (func $sink "{f}") (memory $m)))"#);
    let lowered: String = FUNCTIONS.into_iter().map(lower).collect();
    // Calls so many times, and adds up the answers so that none can be left out.
    let turns = |f: &str, arguments: &str| {
        format!(
            r#"(func (export "{f}") (param $times i32) (param $len i32) (result i32) (local $sum i32)
                (loop $l
                    (local.set $sum (i32.add (local.get $sum) (call ${f} {arguments})))
                    (br_if $l (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
                (local.get $sum))"#
        )
    };
    let (u, s, b) = (
        turns("u", "(local.get $times)"),
        turns("s", "(i32.const 0) (local.get $len)"),
        turns("b", "(i32.const 0) (local.get $len)"),
    );
    let lift = |(f, _): (&str, &str)| {
        format!(
            r#"(func $r{f} (param "times" u32) (param "len" u32) (result u32) (canon lift (core func $main "{f}")))"#
        )
    };
    let lifted: String = FUNCTIONS.into_iter().map(lift).collect();
    format!(
        r#"(component {name}
            (import "{SINK}" (instance $sink {declared}))
            (core module $memory (memory (export "memory") 2))
            (core instance $mem (instantiate $memory))
            (alias core export $mem "memory" (core memory $m))
            {lowered}
            (core module $code
                (import "host" "u" (func $u (param i32) (result i32)))
                (import "host" "s" (func $s (param i32 i32) (result i32)))
                (import "host" "b" (func $b (param i32 i32) (result i32)))
                {u} {s} {b})
            (core instance $main (instantiate $code (with "host" (instance
                (export "u" (func $lu)) (export "s" (func $ls)) (export "b" (func $lb))))))
            {lifted}
            (instance $out (export "u" (func $ru)) (export "s" (func $rs)) (export "b" (func $rb)))
            (export "{RUN}" (instance $out)))"#
    )
}

/// The component that is called.
pub fn callee() -> Result<Vec<u8>> {
    Ok(wat::parse_str(callee_text(""))?)
}

/// The component that calls.
pub fn caller() -> Result<Vec<u8>> {
    Ok(wat::parse_str(caller_text(""))?)
}

/// Both as one, put together by hand.
pub fn by_hand() -> Result<Vec<u8>> {
    let (callee, caller) = (callee_text("$callee"), caller_text("$caller"));
    let text = format!(
        r#"(component {callee} {caller}
            (instance $b (instantiate $callee))
            (instance $a (instantiate $caller (with "{SINK}" (instance $b "{SINK}"))))
            (export "{RUN}" (instance $a "{RUN}")))"#
    );
    Ok(wat::parse_str(text)?)
}
