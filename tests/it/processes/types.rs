//! Message types from descriptor sets: served by reflection, and used by the commands that show payloads.

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::binary::Longhaul;
use super::typed::Typist;

/// `message Order { string title = 1; }` and a service that is served elsewhere.
fn shop() -> FileDescriptorProto {
    let title = FieldDescriptorProto {
        name: Some("title".to_owned()),
        number: Some(1),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::String.into()),
        ..FieldDescriptorProto::default()
    };
    let order = DescriptorProto {
        name: Some("Order".to_owned()),
        field: vec![title],
        ..DescriptorProto::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("Shop".to_owned()),
        ..ServiceDescriptorProto::default()
    };
    FileDescriptorProto {
        name: Some("shop/order.proto".to_owned()),
        package: Some("shop".to_owned()),
        message_type: vec![order],
        service: vec![service],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

async fn reflected(address: &str, wanted: MessageRequest) -> MessageResponse {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut client = ServerReflectionClient::new(channel.connect().await.expect("a server"));
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(wanted) };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("reflection")
        .into_inner();
    let answer = answers.message().await.expect("an answer").expect("an answer");
    answer.message_response.expect("a response")
}

#[tokio::test]
async fn types_of_a_descriptor_set_are_shown_as_json_and_served_by_reflection() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.binpb");
    let file = file.to_str().expect("a path");
    std::fs::write(file, FileDescriptorSet { file: vec![shop()] }.encode_to_vec())
        .expect("written");
    let store = format!("embedded:{}", folder.path().join("store").display());
    let server = Longhaul::serve_with(&store, &["--descriptor-set", file]).await;
    let address = server.address().to_string();

    let typist = Typist::at(&address);
    let request = r#"{"@type":"type.googleapis.com/shop.Order","title":"a book"}"#;
    let known = ["--descriptor-set", file];
    let start = [&["start", "--request", request], &known[..]].concat();
    let name = typist.runs(&start, "").await.stdout.trim().to_owned();
    assert!(name.starts_with("operations/"), "{name}");
    let record = ["record", &name, "--output", "json"];
    let shown = typist.runs(&[&record, &known[..]].concat(), "").await.stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["request"]["title"], "a book", "{shown}");
    // Without the descriptors the payload is still there, as bytes.
    let shown = typist.runs(&record, "").await.stdout;
    assert!(shown.contains("@value"), "{shown}");

    let wanted = MessageRequest::FileContainingSymbol("shop.Order".to_owned());
    let MessageResponse::FileDescriptorResponse(files) = reflected(&address, wanted).await else {
        panic!("no file with shop.Order");
    };
    assert_eq!(files.file_descriptor_proto, [shop().encode_to_vec()]);
    let wanted = MessageRequest::ListServices(String::new());
    let MessageResponse::ListServicesResponse(list) = reflected(&address, wanted).await else {
        panic!("no services");
    };
    let mut names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "google.longrunning.Operations",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "longhaul.v1.Admin",
            "longhaul.v1.Callers",
            "longhaul.v1.Jobs",
            "longhaul.v1.Producers",
            "longhaul.v1.Queues",
            "longhaul.v1.Tokens",
            "longhaul.v1.TypeSets",
            "longhaul.v1.Webhooks",
            "longhaul.v1.Workers",
        ],
        "services that are served here, and no others"
    );
}

#[tokio::test]
async fn commands_create_type_sets_and_show_payloads_by_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.binpb");
    let file = file.to_str().expect("a path");
    let set = FileDescriptorSet { file: vec![shop()] }.encode_to_vec();
    std::fs::write(file, &set).expect("written");
    let store = format!("embedded:{}", folder.path().join("store").display());
    let server = Longhaul::serve_with(&store, &[]).await;
    let typist = Typist::at(&server.address().to_string());
    let request = r#"{"@type":"type.googleapis.com/shop.Order","title":"a book"}"#;
    let start = ["start", "--parent", "projects/p", "--request", request, "--descriptor-set", file];
    let name = typist.runs(&start, "").await.stdout.trim().to_owned();
    let record = async || {
        let record = ["record", &name, "--output", "json"];
        let shown = typist.runs(&record, "").await.stdout;
        serde_json::from_str::<serde_json::Value>(&shown).expect("JSON")["request"].clone()
    };
    assert!(record().await.get("@value").is_some());

    let create =
        ["types", "create", "--parent", "projects/p", "--id", "shop", "--descriptor-set", file];
    let created = typist.runs(&create, "").await.stdout;
    assert_eq!(created, "projects/p/typeSets/shop\n");
    assert_eq!(record().await["title"], "a book");
    let listed = typist.runs(&["types", "list"], "").await.stdout;
    assert!(listed.starts_with("NAME") && listed.contains(created.trim()), "{listed}");
    let copy = folder.path().join("copy.binpb");
    let get = ["types", "get", created.trim(), "--out", copy.to_str().expect("a path")];
    let got = typist.runs(&get, "").await.stdout;
    assert_eq!(got, format!("{created}  shop.Order\n"));
    assert_eq!(std::fs::read(copy).expect("written"), set);
    typist.runs(&["types", "delete", created.trim()], "").await;
    assert!(record().await.get("@value").is_some());
}

#[tokio::test]
async fn a_descriptor_set_that_cannot_be_used_is_named_by_servers_and_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.proto");
    let file = file.to_str().expect("a path");
    std::fs::write(file, "syntax = \"proto3\";").expect("written");
    let store = format!("embedded:{}", folder.path().join("store").display());
    let args = ["serve", "--listen", "127.0.0.1:0", "--store", &store, "--descriptor-set", file];
    let refusal = Longhaul::refusal(&args).await;
    assert_eq!(refusal.code, Some(1), "{refusal:?}");
    assert!(
        refusal.output.contains(&format!("cannot use the descriptor set {file}")),
        "{refusal:?}"
    );

    let ended = Typist::at("nowhere").runs(&["list", "--descriptor-set", file], "").await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("--descriptor_set_out"), "{ended:?}");
}
