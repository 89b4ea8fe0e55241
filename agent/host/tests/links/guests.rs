//! The two components: a caller that forwards, and a callee that answers.

/// What both of them are about.
pub const ECHO: &str = "shop:test/echo@1.0.0";
/// What the caller exports: the same functions.
pub const DRIVE: &str = "shop:test/drive@1.0.0";

/// A value of every kind that needs no name.
const ALL: &str = "(tuple bool s8 u8 s16 u16 s32 u32 s64 u64 f32 f64 char string (list string) (option u32) \
                   (result string (error u8)) (list (tuple u8 s64)))";

struct Function {
    name: &'static str,
    ty: String,
    /// Core parameters without the pointer to the results, and how results come.
    params: usize,
    results: Results,
    /// What the callee does.
    body: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Results {
    None,
    Direct,
    Memory,
}

fn functions() -> Vec<Function> {
    use Results::{Direct, Memory, None};
    let function = |name, ty: &str, params, results, body| Function {
        name,
        ty: ty.to_owned(),
        params,
        results,
        body,
    };
    let bytes = r#"(param "b" (list u8))"#;
    vec![
        function(
            "add",
            r#"(param "a" u32) (param "b" u32) (result u32)"#,
            2,
            Direct,
            "(i32.add (i32.add (local.get 0) (local.get 1)) (i32.const OFFSET))",
        ),
        function(
            "echo",
            &format!("{bytes} (result (list u8))"),
            2,
            Memory,
            "(i32.store (i32.const 1024) (local.get 0)) (i32.store (i32.const 1028) (local.get 1)) (i32.const 1024)",
        ),
        // So many values come by pointer, and go as they came.
        function(
            "all",
            &format!(r#"(param "v" {ALL}) (result {ALL})"#),
            1,
            Memory,
            "(local.get 0)",
        ),
        function("halt", "", 0, None, "unreachable"),
        function("spin", "(result u32)", 0, Direct, "(loop $l (br $l)) (i32.const 0)"),
        function(
            "try",
            &format!("{bytes} (result (result u32 (error string)))"),
            2,
            Memory,
            "unreachable",
        ),
        function(
            "try-add",
            r#"(param "a" u32) (result (result u32 (error string)))"#,
            1,
            Memory,
            "(i32.store (i32.const 1024) (i32.const 0)) (i32.store (i32.const 1028) (i32.add (local.get 0) (i32.const 1))) \
             (i32.const 1024)",
        ),
    ]
}

const MEMORY: &str = r#"
    (core module $memory
        (memory (export "memory") 400)
        (global $next (mut i32) (i32.const 65536))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
            (local.set $at (global.get $next))
            (global.set $next
                (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 15)) (i32.const -8)))
            (local.get $at)))
    (core instance $mem (instantiate $memory))
    (alias core export $mem "memory" (core memory $m))
    (alias core export $mem "realloc" (core func $realloc))"#;

fn core_type(function: &Function, lowered: bool) -> String {
    let pointer = usize::from(lowered && function.results == Results::Memory);
    let params = "i32 ".repeat(function.params + pointer);
    let result = match function.results {
        Results::Direct => "(result i32)",
        Results::Memory if !lowered => "(result i32)",
        Results::None | Results::Memory => "",
    };
    format!("(param {params}) {result}")
}

fn exports(interface: &str) -> String {
    let all = functions();
    let lift = |f: &Function| {
        let (name, ty) = (f.name, &f.ty);
        format!(r#"(func $x-{name} {ty} (canon lift (core func $main "{name}") (memory $m) (realloc $realloc)))"#)
    };
    let lifted: String = all.iter().map(lift).collect();
    let export = |f: &Function| format!(r#"(export "{0}" (func $x-{0}))"#, f.name);
    let exported: String = all.iter().map(export).collect();
    format!(r#"{lifted} (instance $out {exported}) (export "{interface}" (instance $out))"#)
}

/// Answers; `add` adds `offset`, so that generations can be told apart.
pub fn callee(offset: u32) -> Vec<u8> {
    let define = |f: &Function| {
        let (name, ty, body) = (
            f.name,
            core_type(f, false),
            f.body.replace("OFFSET", &offset.to_string()),
        );
        format!(r#"(func (export "{name}") {ty} {body})"#)
    };
    let bodies: String = functions().iter().map(define).collect();
    let exports = exports(ECHO);
    let text = format!(
        r#"(component {MEMORY}
            (core module $code (import "host" "memory" (memory 1)) {bodies})
            (core instance $main (instantiate $code (with "host" (instance (export "memory" (memory $m))))))
            {exports})"#
    );
    wat::parse_str(text).unwrap()
}

/// Forwards each call to its import.
pub fn caller() -> Vec<u8> {
    let all = functions();
    let declare = |f: &Function| format!(r#"(export "{}" (func {}))"#, f.name, f.ty);
    let declared: String = all.iter().map(declare).collect();
    let lower = |f: &Function| {
        format!(
            r#"(core func $l-{0} (canon lower (func $echo "{0}") (memory $m) (realloc $realloc)))"#,
            f.name
        )
    };
    let lowered: String = all.iter().map(lower).collect();
    let import = |f: &Function| format!(r#"(import "host" "{0}" (func ${0} {1}))"#, f.name, core_type(f, true));
    let imported: String = all.iter().map(import).collect();
    let forward = |f: &Function| {
        let mut arguments: String = (0..f.params).map(|at| format!("(local.get {at}) ")).collect();
        let mut after = "";
        if f.results == Results::Memory {
            arguments.push_str("(i32.const 1024)");
            after = "(i32.const 1024)";
        }
        let (name, ty) = (f.name, core_type(f, false));
        format!(r#"(func (export "{name}") {ty} (call ${name} {arguments}) {after})"#)
    };
    let forwarded: String = all.iter().map(forward).collect();
    let with = |f: &Function| format!(r#"(export "{0}" (func $l-{0}))"#, f.name);
    let given: String = all.iter().map(with).collect();
    let exports = exports(DRIVE);
    let text = format!(
        r#"(component
            (import "{ECHO}" (instance $echo {declared}))
            {MEMORY} {lowered}
            (core module $code (import "host" "memory" (memory 1)) {imported} {forwarded})
            (core instance $main (instantiate $code
                (with "host" (instance (export "memory" (memory $m)) {given}))))
            {exports})"#
    );
    wat::parse_str(text).unwrap()
}
