//! What a stored record says, for people.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;

use crate::proto::STORED_DESCRIPTORS;
use crate::types::Registry;
use crate::wire::transcode::write::MessageJson;

/// The kind of a stored value, and its message as JSON; empty and `None` for a kind that this version does not know.
pub(super) fn content(value: &[u8]) -> (String, Option<Value>) {
    let Some(forms) = FORMS.as_ref() else { return (String::new(), None) };
    let Ok(message) = DynamicMessage::decode(forms.record.clone(), value) else {
        return (String::new(), None);
    };
    let kind = message.fields().find(|(field, _)| field.containing_oneof().is_some());
    let Some((field, kind)) = kind else { return (String::new(), None) };
    let json = kind.as_message().and_then(|kind| json(forms, kind));
    (field.name().to_owned(), json)
}

fn json(forms: &Forms, message: &DynamicMessage) -> Option<Value> {
    let written = |message| serde_json::to_value(MessageJson::new(message, &forms.types)).ok();
    let mut json = written(message)?;
    // A message that is stored as bytes.
    if let Some(bytes) =
        message.get_field_by_name("spec").as_deref().and_then(|spec| spec.as_bytes())
        && let Ok(spec) = DynamicMessage::decode(forms.spec.clone(), bytes.clone())
        && let Some(object) = json.as_object_mut()
    {
        object.insert("spec".to_owned(), written(&spec)?);
    }
    Some(json)
}

/// Descriptors of the stored form.
struct Forms {
    record: MessageDescriptor,
    spec: MessageDescriptor,
    types: Registry,
}

static FORMS: LazyLock<Option<Forms>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(STORED_DESCRIPTORS).ok()?;
    let message = |name| pool.get_message_by_name(name);
    Some(Forms {
        record: message("longhaul.store.v1.Record")?,
        spec: message("longhaul.store.v1.Spec")?,
        types: Registry::builtin(),
    })
});

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    use crate::proto::longhaul::store::v1 as stored;

    #[test]
    fn a_record_can_be_read_by_people_and_an_unknown_kind_has_no_words() {
        let spec = stored::Spec { queue: "mail".to_owned(), ..Default::default() };
        let operation = stored::Operation {
            name: "operations/a".to_owned(),
            spec: spec.encode_to_vec().into(),
            state: stored::State::Pending.into(),
            ..Default::default()
        };
        let kind = Some(stored::record::Kind::Operation(operation));
        let (kind, content) = content(&stored::Record { kind, format: 0 }.encode_to_vec());
        let content = content.expect("words");
        assert_eq!(kind, "operation");
        assert_eq!(content["name"], "operations/a");
        assert_eq!(content["state"], "PENDING");
        assert_eq!(content["spec"]["queue"], "mail");
        for unknown in [&[0xa2, 0x06, 0x01, 0x00][..], &[0xff], &[]] {
            assert_eq!(super::content(unknown), (String::new(), None));
        }
    }
}
