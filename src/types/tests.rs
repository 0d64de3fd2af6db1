use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use super::*;
use crate::limits::{
    MAX_DESCRIPTOR_SET_BYTES, MAX_PAYLOAD_BYTES, MAX_TYPE_SET_BYTES, MAX_TYPE_SET_DEPTH,
    MAX_TYPE_SET_FILES,
};
use crate::operation::payload::type_url;
use crate::proto::google::protobuf::Any;

/// A file with one message, whose fields are strings, except those named as a type.
pub(crate) fn file(
    path: &str,
    package: &str,
    message: &str,
    fields: &[&str],
) -> FileDescriptorProto {
    let fields = fields.iter().zip(1..).map(|(field, number)| {
        let (name, kind) = field.split_once(' ').unwrap_or((field, ""));
        FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(Label::Optional.into()),
            r#type: Some(if kind.is_empty() { Type::String } else { Type::Message }.into()),
            type_name: (!kind.is_empty()).then(|| kind.to_owned()),
            ..FieldDescriptorProto::default()
        }
    });
    let message = DescriptorProto {
        name: Some(message.to_owned()),
        field: fields.collect(),
        ..DescriptorProto::default()
    };
    FileDescriptorProto {
        name: Some(path.to_owned()),
        package: Some(package.to_owned()),
        message_type: vec![message],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

pub(crate) fn set(files: &[FileDescriptorProto]) -> Vec<u8> {
    FileDescriptorSet { file: files.to_vec() }.encode_to_vec()
}

fn importing(file: FileDescriptorProto, import: &str) -> FileDescriptorProto {
    FileDescriptorProto { dependency: vec![import.to_owned()], ..file }
}

fn shop() -> FileDescriptorProto {
    file("shop/order.proto", "shop", "Order", &["title"])
}

fn refusal(types: &Registry, files: &[FileDescriptorProto]) -> String {
    types.with(&set(files)).expect_err("a refusal").to_string()
}

#[test]
fn payloads_of_added_types_are_decoded_and_shown_as_json() {
    let types = Registry::builtin().with(&set(&[shop()])).expect("a set");
    let text = r#"{"@type": "type.googleapis.com/shop.Order", "title": "a book"}"#;
    let any = types.read_text(text).expect("JSON");
    let shown: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(types.any(&any), shown);
    let order = types.decode(&any).expect("an order");
    assert_eq!(order.get_field_by_name("title").expect("field").as_str(), Some("a book"));
    // The registry that it was made of knows no more than before.
    let before = Registry::builtin();
    assert_eq!(before.decode(&any), Err(Undecoded::UnknownType("shop.Order".to_owned())));
    assert!(before.any(&any).get("@value").is_some());
}

#[test]
fn files_may_import_what_is_built_in_and_repeat_it() {
    let order = importing(
        file("shop/order.proto", "shop", "Order", &["status .google.rpc.Status"]),
        "google/rpc/status.proto",
    );
    // As another version of it would be.
    let status = file("google/rpc/status.proto", "google.rpc", "Status", &["text"]);
    for files in [vec![order.clone()], vec![status, order.clone(), order]] {
        let types = Registry::builtin().with(&set(&files)).expect("a set");
        let status = types.message("google.rpc.Status").expect("a message");
        assert!(status.get_field_by_name("code").is_some(), "ours counts");
        assert!(types.with(&set(&files)).is_ok(), "the same once more");
        assert!(types.names().any(|name| name == "shop.Order"));
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let types = Registry::builtin().with(&set(&[shop()])).expect("a set");
    let changed = file("shop/order.proto", "shop", "Order", &["title", "price"]);
    for (files, parts) in [
        (vec![changed.clone()], ["shop/order.proto", "shop.Order differs"]),
        (vec![file("other.proto", "shop", "Order", &[])], ["shop.Order", "defined"]),
        (
            vec![importing(file("a.proto", "a", "A", &["b .b.B"]), "b.proto")],
            ["'b.proto'", "--include_imports"],
        ),
        (vec![file("a.proto", "a", "A", &["b .b.B"])], ["b.B", "not defined"]),
        (
            vec![file("evil.proto", "google.protobuf", "Evil", &[])],
            ["evil.proto", "google.protobuf, which is built in"],
        ),
        (vec![file("evil.proto", "longhaul.v1", "Evil", &[])], ["evil.proto", "longhaul.v1"]),
        (vec![file("", "a", "A", &[])], ["no name", ""]),
        (
            vec![FileDescriptorProto { syntax: Some("editions".to_owned()), ..shop() }],
            ["shop/order.proto", "proto3"],
        ),
        (
            vec![file("a.proto", "a", "A", &[]), file("a.proto", "a", "B", &[])],
            ["a.proto", "a.B differs"],
        ),
    ] {
        let text = refusal(&types, &files);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    let text = types.with(b"syntax = \"proto3\";").expect_err("a source").to_string();
    assert!(text.contains("--descriptor_set_out"), "{text}");
    let text = types.with(&vec![0; MAX_DESCRIPTOR_SET_BYTES + 1]).expect_err("large").to_string();
    assert!(text.contains(&MAX_DESCRIPTOR_SET_BYTES.to_string()), "{text}");
}

#[test]
fn a_file_is_named_when_it_cannot_be_read_or_used() {
    let folder = tempfile::tempdir().expect("folder");
    let (good, bad) = (folder.path().join("good.binpb"), folder.path().join("bad.binpb"));
    std::fs::write(&good, set(&[shop()])).expect("write");
    std::fs::write(&bad, set(&[file("other.proto", "shop", "Order", &[])])).expect("write");
    assert!(Registry::load(&[&good]).expect("types").knows("shop.Order"));
    for (files, part) in [
        (vec![&good, &bad], "cannot use"),
        (vec![&folder.path().join("none.binpb")], "cannot read"),
    ] {
        let text = Registry::load(&files).expect_err(part).to_string();
        let named = files.last().expect("a file").display().to_string();
        assert!(text.contains(part) && text.contains(&named), "{text}");
    }
}

#[test]
fn a_payload_is_decoded_only_up_to_a_size_and_a_depth() {
    let types = Registry::builtin();
    let nested = |depth: usize| {
        let inner = Any { type_url: type_url("google.protobuf.Empty"), value: Bytes::new() };
        (0..depth).fold(inner, |any, _| Any {
            type_url: type_url("google.protobuf.Any"),
            value: any.encode_to_vec().into(),
        })
    };
    assert!(types.decode(&nested(10)).is_ok());
    // Deep enough to overflow the stack of a thread where nothing bounded it.
    let deep = nested(2_000);
    assert_eq!(types.decode(&deep), Err(Undecoded::TooDeep));
    assert!(types.any(&deep).get("@value").is_some());

    let large = Any { value: vec![0; MAX_PAYLOAD_BYTES + 1].into(), ..nested(0) };
    assert_eq!(types.decode(&large), Err(Undecoded::TooLarge(MAX_PAYLOAD_BYTES + 1)));
    let status = Any { type_url: type_url("google.rpc.Status"), value: vec![0xff].into() };
    assert_eq!(types.decode(&status), Err(Undecoded::Malformed("google.rpc.Status".to_owned())));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let types = Registry::builtin();
        drop(types.with(&noise));
        let order = file("shop/order.proto", "shop", "Order", &["title", "of .shop.Order"]);
        let mut damaged = set(&[order, file("a.proto", "a", "A", &["b .a.A"])]);
        let at = at.index(damaged.len());
        damaged[at] = byte;
        drop(types.with(&damaged));
        drop(types.decode(&Any { type_url: type_url("google.rpc.BadRequest"), value: noise.into() }));
    }
}

fn nested(depth: usize) -> DescriptorProto {
    let name = Some(format!("M{depth}"));
    let nested_type = if depth == 1 { Vec::new() } else { vec![nested(depth - 1)] };
    DescriptorProto { name, nested_type, ..DescriptorProto::default() }
}

#[test]
fn an_uploaded_set_is_bounded_in_bytes_files_and_depth() {
    let of = |message| FileDescriptorProto { message_type: vec![message], ..shop() };
    let summary = SetSummary::of(&set(&[of(nested(MAX_TYPE_SET_DEPTH))])).expect("deep enough");
    assert_eq!(summary, SetSummary { files: 1, messages: MAX_TYPE_SET_DEPTH });
    let files: Vec<_> = (0..=MAX_TYPE_SET_FILES)
        .map(|number| file(&format!("{number}.proto"), "shop", &format!("M{number}"), &[]))
        .collect();
    assert!(SetSummary::of(&set(&files[1..])).is_ok());
    let deep = set(&[of(nested(MAX_TYPE_SET_DEPTH + 1))]);
    let bottomless = set(&[of(nested(200))]);
    for (bad, part) in [
        (vec![0; MAX_TYPE_SET_BYTES + 1], "bytes; the most"),
        (set(&files), "files; the most"),
        (deep, "deep"),
        (bottomless, "not a serialized"),
        (Vec::new(), "no files"),
        (b"syntax = \"proto3\";".to_vec(), "not a serialized"),
    ] {
        let refusal = SetSummary::of(&bad).expect_err(part).to_string();
        assert!(refusal.contains(part), "{refusal}");
    }
}

/// A chain of imports, each file of the next: nothing here goes as deep as it.
#[test]
fn a_long_chain_of_imports_is_joined() {
    let name = |number: usize| format!("f{number}.proto");
    let chain: Vec<_> = (0..MAX_TYPE_SET_FILES)
        .map(|number| {
            let one = file(&name(number), "chain", &format!("M{number}"), &[]);
            if number + 1 == MAX_TYPE_SET_FILES { one } else { importing(one, &name(number + 1)) }
        })
        .collect();
    let types = Registry::builtin().with(&set(&chain)).expect("a set");
    assert!(types.message("chain.M0").is_some() && types.message("chain.M999").is_some());
}

#[test]
fn of_sets_that_do_not_fit_together_the_first_is_known_and_the_others_are_left_out_whole() {
    let other = file("shop/order.proto", "shop", "Order", &["title", "price"]);
    let beside = file("shop/cart.proto", "shop", "Cart", &["title"]);
    let sets = [set(&[shop()]), set(&[beside.clone(), other]), set(&[beside])];
    let types = Registry::builtin().with_each(&sets[..2]);
    let order = types.message("shop.Order").expect("the first");
    assert!(order.get_field_by_name("price").is_none());
    assert!(types.message("shop.Cart").is_none());
    assert!(Registry::builtin().with_each(&sets).message("shop.Cart").is_some());
    let none: [Vec<u8>; 0] = [];
    assert!(types.is(&types.with_each(&none)) && !types.is(&Registry::builtin()));
}
