//! What a composed group rests on (docs/decisions/0002-composed-groups.md): components that import one interface keep
//! configuration, scope and data of their own, although they are one component to the engine.
//!
//! One group is written by hand, as the composer writes it: two parts, each imported interface under a name of its own,
//! and the parts' own bytes untouched. The other is the composer's, prepared and called as an agent does it.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

mod support;

use heddle_capability::{
    CapabilitySet, Ctx, Grants, Import, Lending, Log, MemoryBudget, MemoryMeter, NoLogs, base_linker,
};
use heddle_capability_config::Config;
use heddle_capability_keyvalue::KeyvalueMemory;
use heddle_compose::{Link, Part, compose};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{self, Binding, CapabilityOffer, TemplateComponent, Wasi};
use heddle_protocol::id::{CapabilityName, ComponentName, Generation, UnitId, WorkloadId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wasmtime::component::Component;
use wasmtime::{Config as EngineConfig, Engine};

const CONFIG: &str = "wasi:config/store@0.2.0-rc.1";
const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";
const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft";

/// The imports of a part, under the names that `name` gives them, with indices that end in `suffix`.
fn imports(suffix: &str, name: impl Fn(&str) -> String) -> String {
    let (config, store, atomics) = (name(CONFIG), name(STORE), name(ATOMICS));
    format!(
        r#"
        (import "{config}" (instance $config{suffix}
            (type $variant (variant (case "upstream" string) (case "io" string)))
            (export "error" (type $error (eq $variant)))
            (type $option (option string))
            (type $result (result $option (error $error)))
            (export "get" (func (param "key" string) (result $result)))))
        (import "{store}" (instance $store{suffix}
            (export "bucket" (type $bucket (sub resource)))
            (type $variant (variant (case "no-such-store") (case "access-denied") (case "other" string)))
            (export "error" (type $error (eq $variant)))
            (type $own (own $bucket))
            (type $result (result $own (error $error)))
            (export "open" (func (param "identifier" string) (result $result)))))
        (alias export $store{suffix} "bucket" (type $bucket{suffix}))
        (alias export $store{suffix} "error" (type $error{suffix}))
        (import "{atomics}" (instance $atomics{suffix}
            (alias outer 1 $bucket{suffix} (type $outer-bucket))
            (export "bucket" (type $bucket (eq $outer-bucket)))
            (alias outer 1 $error{suffix} (type $outer-error))
            (export "error" (type $error (eq $outer-error)))
            (type $borrow (borrow $bucket))
            (type $result (result u64 (error $error)))
            (export "increment"
                (func (param "bucket" $borrow) (param "key" string) (param "delta" u64) (result $result)))))
        "#
    )
}

/// One part: `letter` answers the first byte of its configured `letter`, `count` adds one to its counter `n`.
fn part() -> String {
    component(
        "",
        r#"
        (func (export "letter") (result u32) (canon lift (core func $main "letter")))
        (func (export "count") (result u64) (canon lift (core func $main "count")))
        "#,
    )
}

/// A component that can do what a part does, with further imports and with these exports.
fn component(further: &str, exports: &str) -> String {
    format!(
        r#"(component $part {imports} {further}
        (core module $memory
            (memory (export "memory") 1)
            (global $next (mut i32) (i32.const 1024))
            (data (i32.const 8) "letter")
            (data (i32.const 24) "n")
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $next)
                (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 7))
                                           (i32.const -8)))))
        (core instance $memory (instantiate $memory))
        (alias core export $memory "memory" (core memory $mem))
        (alias core export $memory "realloc" (core func $realloc))
        (core func $get (canon lower (func $config "get") (memory $mem) (realloc $realloc)))
        (core func $open (canon lower (func $store "open") (memory $mem) (realloc $realloc)))
        (core func $increment (canon lower (func $atomics "increment") (memory $mem) (realloc $realloc)))
        (core module $main
            (import "host" "memory" (memory 1))
            (import "host" "get" (func $get (param i32 i32 i32)))
            (import "host" "open" (func $open (param i32 i32 i32)))
            (import "host" "increment" (func $increment (param i32 i32 i32 i64 i32)))
            (func (export "letter") (result i32)
                (call $get (i32.const 8) (i32.const 6) (i32.const 64))
                ;; result at 64, option at 68, the string's address at 72
                (i32.load8_u (i32.load (i32.const 72))))
            (func (export "count") (result i64)
                (call $open (i32.const 24) (i32.const 1) (i32.const 96))
                (call $increment (i32.load (i32.const 100)) (i32.const 24) (i32.const 1) (i64.const 1) (i32.const 128))
                (i64.load (i32.const 136))))
        (core instance $main (instantiate $main (with "host" (instance
            (export "memory" (memory $mem))
            (export "get" (func $get))
            (export "open" (func $open))
            (export "increment" (func $increment))))))
        {exports})
        "#,
        imports = imports("", str::to_owned)
    )
}

/// The name in the group of what part `k` imports: `wasi:config/store@V` becomes `heddle:c0-wasi-config/store@V`.
fn group_name(k: usize, interface: &str) -> String {
    format!("heddle:c{k}-{}", interface.replacen(':', "-", 1))
}

fn group() -> String {
    let instance = |k: usize| {
        format!(
            r#"(instance $p{k} (instantiate $part
                (with "{CONFIG}" (instance $config{k}))
                (with "{STORE}" (instance $store{k}))
                (with "{ATOMICS}" (instance $atomics{k}))))
            (export "letter{k}" (func $p{k} "letter"))
            (export "count{k}" (func $p{k} "count"))"#
        )
    };
    let (zero, one) = (
        imports("0", |name| group_name(0, name)),
        imports("1", |name| group_name(1, name)),
    );
    format!("(component {zero} {one} {} {} {})", part(), instance(0), instance(1))
}

#[tokio::test]
async fn each_part_of_a_group_keeps_its_own_configuration_and_data() {
    let mut config = EngineConfig::new();
    config
        .concurrency_support(false)
        .wasm_component_model_async(false)
        .epoch_interruption(true);
    let engine = Engine::new(&config).unwrap();
    let component = Component::new(&engine, wat::parse_str(group()).unwrap()).unwrap();

    let set = CapabilitySet::builder()
        .capability(Config)
        .capability(KeyvalueMemory::default())
        .build();
    set.lend_defaults().unwrap();
    let (config, sessions) = (
        CapabilityName::parse("config").unwrap(),
        CapabilityName::parse("sessions").unwrap(),
    );
    set.apply(
        &sessions,
        &CapabilityOffer::KeyvalueMemory { shared: false },
        &Lending::default(),
    )
    .unwrap();

    let unit = UnitId {
        workload: WorkloadId::parse("shop/cart").unwrap(),
        generation: Generation(1),
    };
    let part = ComponentName::parse("part").unwrap();
    let log = Arc::new(Log::new(unit.clone(), part.clone(), Arc::new(NoLogs)));
    let mut linker = base_linker(&engine, Wasi::P2).unwrap();
    for (k, (letter, scope)) in [("a", "shop"), ("b", "bank")].into_iter().enumerate() {
        let values = BTreeMap::from([("letter".to_owned(), letter.to_owned())]);
        for (interface, capability) in [(CONFIG, &config), (STORE, &sessions), (ATOMICS, &sessions)] {
            let import = Import {
                interface,
                unit: &unit,
                component: &part,
                config: &values,
                secrets: &BTreeMap::new(),
                scope,
                log: &log,
            };
            let mut instance = linker.instance(&group_name(k, interface)).unwrap();
            set.prepare(capability, &import, &mut instance).unwrap();
        }
    }

    let pre = linker.instantiate_pre(&component).unwrap();
    let memory = MemoryMeter::new(Arc::new(MemoryBudget::new(u64::MAX)), 1 << 20);
    let mut store = Ctx::new(
        &log,
        memory,
        Instant::now() + Duration::from_secs(60),
        &Grants::default(),
    )
    .into_store(&engine);
    let instance = pre.instantiate_async(&mut store).await.unwrap();
    let mut letters = String::new();
    let mut counts = Vec::new();
    for (export, times) in [("0", 3), ("1", 1)] {
        let letter = instance
            .get_typed_func::<(), (u32,)>(&mut store, format!("letter{export}"))
            .unwrap();
        let (byte,) = letter.call_async(&mut store, ()).await.unwrap();
        letters.push(char::from_u32(byte).unwrap());
        let count = instance
            .get_typed_func::<(), (u64,)>(&mut store, format!("count{export}"))
            .unwrap();
        for _ in 0..times {
            counts.push(count.call_async(&mut store, ()).await.unwrap().0);
        }
    }
    assert_eq!(letters, "ab", "each part reads its own configuration");
    assert_eq!(counts, [1, 2, 3, 1], "each part counts in its own scope");
}

const CALLEE: &str = "test:letters/callee@1.0.0";
const CALLER: &str = "test:letters/caller@1.0.0";

fn callee() -> Vec<u8> {
    let exports = format!(
        r#"
        (func $letter (result u32) (canon lift (core func $main "letter")))
        (func $count (result u64) (canon lift (core func $main "count")))
        (instance $out (export "letter" (func $letter)) (export "count" (func $count)))
        (export "{CALLEE}" (instance $out))
        "#
    );
    wat::parse_str(component("", &exports)).unwrap()
}

/// Answers for itself, and for the other after it has called it.
fn caller() -> Vec<u8> {
    let further = format!(
        r#"(import "{CALLEE}" (instance $callee
            (export "letter" (func (result u32)))
            (export "count" (func (result u64)))))"#
    );
    let exports = format!(
        r#"
        (core func $their-letter (canon lower (func $callee "letter")))
        (core func $their-count (canon lower (func $callee "count")))
        (core module $through
            (import "callee" "letter" (func $letter (result i32)))
            (import "callee" "count" (func $count (result i64)))
            (func (export "letter") (result i32) (call $letter))
            (func (export "count") (result i64) (call $count)))
        (core instance $through (instantiate $through (with "callee" (instance
            (export "letter" (func $their-letter))
            (export "count" (func $their-count))))))
        (func $letter-0 (result u32) (canon lift (core func $main "letter")))
        (func $count-0 (result u64) (canon lift (core func $main "count")))
        (func $letter-1 (result u32) (canon lift (core func $through "letter")))
        (func $count-1 (result u64) (canon lift (core func $through "count")))
        (instance $out
            (export "letter-own" (func $letter-0)) (export "count-own" (func $count-0))
            (export "letter-theirs" (func $letter-1)) (export "count-theirs" (func $count-1)))
        (export "{CALLER}" (instance $out))
        "#
    );
    wat::parse_str(component(&further, &exports)).unwrap()
}

/// What the scheduler says of such a whole: each import under its part's name, bound with the part's own scope.
fn template(bytes: &[u8]) -> TemplateComponent {
    let mut bindings = BTreeMap::new();
    for (k, (part, scope)) in [(Some("callee"), "bank"), (None, "shop")].into_iter().enumerate() {
        for (interface, capability) in [(CONFIG, "config"), (STORE, "sessions"), (ATOMICS, "sessions")] {
            let binding = Binding {
                interface: Some(interface.to_owned()),
                part: part.map(str::to_owned),
                ..Binding::new(CapabilityName::parse(capability).unwrap(), scope)
            };
            bindings.insert(group_name(k, interface), binding);
        }
    }
    let letter = |letter: &str| BTreeMap::from([("letter".to_owned(), letter.to_owned())]);
    let callee = host_spec::Part {
        config: letter("b"),
        ..host_spec::Part::default()
    };
    TemplateComponent {
        config: letter("a"),
        parts: BTreeMap::from([("callee".to_owned(), callee)]),
        bindings,
        ..TemplateComponent::new(support::component(), Digest::of(bytes), bytes.len() as u64, Wasi::P2)
    }
}

#[tokio::test]
async fn components_that_were_composed_call_each_other_and_keep_what_is_their_own() {
    let renamed = |k| {
        let name = |interface: &str| (interface.to_owned(), group_name(k, interface));
        BTreeMap::from([CONFIG, STORE, ATOMICS].map(name))
    };
    let (callee, caller, zero, one) = (callee(), caller(), renamed(0), renamed(1));
    let part = |bytes, rename| Part { bytes, rename };
    let parts = BTreeMap::from([
        ("callee", part(&callee[..], &zero)),
        ("caller", part(&caller[..], &one)),
    ]);
    let link = Link {
        from: "caller",
        import: CALLEE,
        to: "callee",
        export: CALLEE,
    };
    let whole = compose("caller", &parts, &[link]).unwrap();

    let host = support::Host::new();
    let compiled = host.engines.load_bytes(&whole, Wasi::P2).unwrap();
    let plan = support::probe();
    let unit = host
        .try_prepare_component(&plan, compiled, template(&whole))
        .await
        .unwrap();
    let found = Arc::new(Mutex::new((String::new(), Vec::new())));
    let keep = Arc::clone(&found);
    let work: heddle_capability::Work = Box::new(move |store, instance| {
        Box::pin(async move {
            let (_, caller) = instance.get_export(&mut *store, None, CALLER).unwrap();
            for (of, times) in [("own", 3), ("theirs", 1)] {
                let (_, letter) = instance
                    .get_export(&mut *store, Some(&caller), &format!("letter-{of}"))
                    .unwrap();
                let letter = instance.get_typed_func::<(), (u32,)>(&mut *store, letter)?;
                let (byte,) = letter.call_async(&mut *store, ()).await?;
                keep.lock().unwrap().0.push(char::from_u32(byte).unwrap());
                let (_, count) = instance
                    .get_export(&mut *store, Some(&caller), &format!("count-{of}"))
                    .unwrap();
                let count = instance.get_typed_func::<(), (u64,)>(&mut *store, count)?;
                for _ in 0..times {
                    let (count,) = count.call_async(&mut *store, ()).await?;
                    keep.lock().unwrap().1.push(count);
                }
            }
            Ok(())
        })
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let called = unit.callable(&support::component()).unwrap();
    called.call(deadline, work).await.unwrap();
    let (letters, counts) = &*found.lock().unwrap();
    assert_eq!(letters, "ab", "each reads its own configuration");
    assert_eq!(counts, &[1, 2, 3, 1], "each counts in its own scope");
}
