//! Values of every shape survive the wire, and no bytes of a peer do harm.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

use bytes::Bytes;
use heddle_capability_wrpc::{Names, Shape, Signature, decode, encode};
use heddle_wrpc::codec::CodecError;
use proptest::collection::vec;
use proptest::prelude::*;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Val};

fn names<T>(items: Vec<T>) -> Names<T> {
    let named = items.into_iter().enumerate().map(|(at, item)| (format!("n{at}"), item));
    Names::new(named.collect())
}

fn shapes() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            Shape::Bool,
            Shape::S8,
            Shape::U8,
            Shape::S16,
            Shape::U16,
            Shape::S32,
            Shape::U32,
            Shape::S64,
            Shape::U64,
            Shape::F32,
            Shape::F64,
            Shape::Char,
            Shape::String,
        ]),
        (1..300_usize).prop_map(|count| Shape::Enum(names(vec![(); count]))),
        (1..140_usize).prop_map(|count| Shape::Flags(names(vec![(); count]))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let maybe = || prop::option::of(inner.clone());
        prop_oneof![
            inner.clone().prop_map(|item| Shape::List(Box::new(item))),
            vec(inner.clone(), 1..4).prop_map(|fields| {
                let named = fields
                    .into_iter()
                    .enumerate()
                    .map(|(at, shape)| (format!("f{at}"), shape));
                Shape::Record(named.collect())
            }),
            vec(inner.clone(), 1..4).prop_map(Shape::Tuple),
            vec(maybe(), 1..4).prop_map(|cases| Shape::Variant(names(cases))),
            inner.clone().prop_map(|shape| Shape::Option(Box::new(shape))),
            (maybe(), maybe()).prop_map(|(ok, err)| Shape::Result {
                ok: ok.map(Box::new),
                err: err.map(Box::new),
            }),
        ]
    })
}

fn payload(shape: Option<&Shape>) -> BoxedStrategy<Option<Box<Val>>> {
    match shape {
        None => Just(None).boxed(),
        Some(shape) => value(shape).prop_map(|value| Some(Box::new(value))).boxed(),
    }
}

fn value(shape: &Shape) -> BoxedStrategy<Val> {
    match shape {
        Shape::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
        Shape::S8 => any::<i8>().prop_map(Val::S8).boxed(),
        Shape::U8 => any::<u8>().prop_map(Val::U8).boxed(),
        Shape::S16 => any::<i16>().prop_map(Val::S16).boxed(),
        Shape::U16 => any::<u16>().prop_map(Val::U16).boxed(),
        Shape::S32 => any::<i32>().prop_map(Val::S32).boxed(),
        Shape::U32 => any::<u32>().prop_map(Val::U32).boxed(),
        Shape::S64 => any::<i64>().prop_map(Val::S64).boxed(),
        Shape::U64 => any::<u64>().prop_map(Val::U64).boxed(),
        Shape::F32 => any::<f32>().prop_map(Val::Float32).boxed(),
        Shape::F64 => any::<f64>().prop_map(Val::Float64).boxed(),
        Shape::Char => any::<char>().prop_map(Val::Char).boxed(),
        Shape::String => any::<String>().prop_map(Val::String).boxed(),
        Shape::List(item) => vec(value(item), 0..5).prop_map(Val::List).boxed(),
        Shape::Record(fields) => {
            let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
            let values: Vec<_> = fields.iter().map(|(_, shape)| value(shape)).collect();
            let record = move |values: Vec<Val>| Val::Record(names.iter().cloned().zip(values).collect());
            values.prop_map(record).boxed()
        }
        Shape::Tuple(shapes) => {
            let values: Vec<_> = shapes.iter().map(value).collect();
            values.prop_map(Val::Tuple).boxed()
        }
        Shape::Variant(cases) => {
            let case = |(name, shape): &(String, Option<Shape>)| {
                let name = name.clone();
                payload(shape.as_ref()).prop_map(move |value| Val::Variant(name.clone(), value))
            };
            proptest::strategy::Union::new(cases.iter().map(case)).boxed()
        }
        Shape::Enum(cases) => {
            let names: Vec<String> = cases.iter().map(|(name, ())| name.clone()).collect();
            prop::sample::select(names).prop_map(Val::Enum).boxed()
        }
        Shape::Option(shape) => {
            let shape = value(shape);
            prop::option::of(shape)
                .prop_map(|value| Val::Option(value.map(Box::new)))
                .boxed()
        }
        Shape::Result { ok, err } => {
            let (ok, err) = (payload(ok.as_deref()), payload(err.as_deref()));
            prop_oneof![
                ok.prop_map(|value| Val::Result(Ok(value))),
                err.prop_map(|value| Val::Result(Err(value)))
            ]
            .boxed()
        }
        Shape::Flags(flags) => {
            let names: Vec<String> = flags.iter().map(|(name, ())| name.clone()).collect();
            let count = names.len();
            prop::sample::subsequence(names, 0..=count).prop_map(Val::Flags).boxed()
        }
    }
}

fn shape_and_value() -> impl Strategy<Value = (Shape, Val)> {
    shapes().prop_flat_map(|shape| {
        let value = value(&shape);
        (Just(shape), value)
    })
}

proptest! {
    #[test]
    fn a_value_of_any_shape_comes_back_as_it_was((shape, value) in shape_and_value()) {
        let bytes = encode([&shape], std::slice::from_ref(&value)).unwrap();
        prop_assert_eq!(decode([&shape], bytes.clone()).unwrap(), vec![value]);
        // One byte less is no value, and one more is too many.
        prop_assert!(decode([&shape], bytes.slice(..bytes.len() - 1)).is_err());
        let longer = Bytes::from([bytes.as_ref(), &[0]].concat());
        prop_assert_eq!(decode([&shape], longer), Err(CodecError::Rest { bytes: 1 }));
    }

    #[test]
    fn no_bytes_of_a_peer_do_harm(shape in shapes(), bytes in vec(any::<u8>(), 0..200)) {
        // Whatever is understood can be written again.
        if let Ok(values) = decode([&shape], bytes.into()) {
            encode([&shape], &values).unwrap();
        }
    }
}

#[test]
fn a_list_that_only_claims_to_be_long_takes_no_memory() {
    let list = Shape::List(Box::new(Shape::List(Box::new(Shape::U8))));
    let claims = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    assert_eq!(decode([&list], claims), Err(CodecError::End { what: "a list" }));
    // A byte on the wire becomes a value of dozens: what they take together is bounded.
    let many = Shape::List(Box::new(Shape::Tuple(vec![Shape::U8])));
    let mut bytes = vec![0_u8; 8 << 20];
    bytes[..4].copy_from_slice(&[0xfc, 0xff, 0xff, 0x03]);
    assert!(matches!(decode([&many], bytes.into()), Err(CodecError::Limit { .. })));
}

#[test]
fn a_value_of_another_type_is_refused() {
    let record = Shape::Record(vec![("a".to_owned(), Shape::U8)]);
    for value in [
        Val::U8(1),
        Val::Record(vec![("b".to_owned(), Val::U8(1))]),
        Val::Record(vec![("a".to_owned(), Val::U16(1))]),
        Val::Record(vec![]),
    ] {
        assert!(encode([&record], &[value]).is_err());
    }
    assert!(encode([&record], &[]).is_err());
    assert!(encode([], &[Val::U8(1)]).is_err());
}

/// The signature of the function `f` that a component imports.
fn signature(types: &str, function: &str) -> Result<Signature, String> {
    let wat = format!(r#"(component (import "a:b/c" (instance {types} (export "f" (func {function})))))"#);
    let engine = Engine::default();
    let component = Component::new(&engine, wat::parse_str(wat).unwrap()).unwrap();
    let ty = component.component_type();
    let import = ty.get_import(&engine, "a:b/c").unwrap();
    let ComponentItem::ComponentInstance(instance) = import.ty else {
        unreachable!("it is an instance");
    };
    let Some(ComponentItem::ComponentFunc(function)) = instance.get_export(&engine, "f").map(|f| f.ty) else {
        unreachable!("it is a function");
    };
    Signature::of(&function).map_err(|why| why.to_string())
}

#[test]
fn a_signature_has_the_names_of_its_types_in_their_order() {
    let types = r#"
        (type $e' (enum "low" "high")) (export "e" (type $e (eq $e')))
        (type $f' (flags "read" "write")) (export "fl" (type $f (eq $f')))
        (type $v' (variant (case "none") (case "some" $e))) (export "v" (type $v (eq $v')))
        (type $r' (record (field "id" u64) (field "kind" $v) (field "rights" $f))) (export "r" (type $r (eq $r')))"#;
    let signature = signature(types, r#"(param "all" (list $r)) (result (result u32 (error string)))"#).unwrap();
    assert!(signature.tells_errors());
    let Some(Shape::List(record)) = signature.params.first() else {
        unreachable!("its parameter is a list");
    };
    let value = Val::Record(vec![
        ("id".to_owned(), Val::U64(300)),
        (
            "kind".to_owned(),
            Val::Variant("some".to_owned(), Some(Box::new(Val::Enum("high".to_owned())))),
        ),
        ("rights".to_owned(), Val::Flags(vec!["write".to_owned()])),
    ]);
    assert_eq!(
        encode([&**record], &[value]).unwrap().as_ref(),
        [0xac, 0x02, 1, 1, 0b10]
    );
}

#[test]
fn what_cannot_cross_hosts_is_refused_by_name() {
    let resource = r#"(export "r" (type $r (sub resource)))"#;
    let why = signature(resource, r#"(param "it" (list (own $r)))"#).unwrap_err();
    assert_eq!(why, r#"its parameter "it" has a resource, which stays inside one host"#);
    let why = signature(resource, "(result (tuple u8 (own $r)))").unwrap_err();
    assert_eq!(why, "its result has a resource, which stays inside one host");
}
