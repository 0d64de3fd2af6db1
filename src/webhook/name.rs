//! Names of deliveries.

use std::fmt;

use crate::operation::name::{EndpointName, Name, NameError};

/// The full name of a delivery: `{endpoint}/deliveries/{id}` or `{operation}/deliveries/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryName {
    /// To which receiver.
    pub owner: DeliveryOwner,
    /// The `webhook-id` of its requests.
    pub id: String,
}

/// What a delivery belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOwner {
    /// The endpoint that it goes to.
    Endpoint(EndpointName),
    /// The operation with the callback that it goes to.
    Operation(Name),
}

impl DeliveryName {
    /// Reads a full name.
    ///
    /// # Errors
    /// [`NameError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let looks = || {
            let why = format!(
                "it looks like webhookEndpoints/ID/{DELIVERIES}/msg_ID or operations/ID/{DELIVERIES}/msg_ID, a parent may stand before it"
            );
            fault(text, DELIVERY, why)
        };
        let (path, id) = text.rsplit_once('/').ok_or_else(looks)?;
        let owner = path.strip_suffix(DELIVERIES).and_then(|path| path.strip_suffix('/'));
        let owner = DeliveryOwner::parse(owner.ok_or_else(looks)?)?;
        let digits = id.strip_prefix(MESSAGE).unwrap_or_default();
        let of_id = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != DIGITS || !digits.bytes().all(of_id) {
            return Err(looks());
        }
        Ok(Self { owner, id: id.to_owned() })
    }

    /// The number in the id.
    pub fn number(&self) -> [u8; 16] {
        let digits = self.id.strip_prefix(MESSAGE).unwrap_or_default();
        u128::from_str_radix(digits, 16).unwrap_or_default().to_be_bytes()
    }

    /// The id of that number.
    pub fn id_of(number: [u8; 16]) -> String {
        format!("{MESSAGE}{:032x}", u128::from_be_bytes(number))
    }
}

impl DeliveryOwner {
    /// Reads the full name of an endpoint or of an operation.
    ///
    /// # Errors
    /// [`NameError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let collection = text.rsplit('/').nth(1).unwrap_or_default();
        match collection {
            "webhookEndpoints" => EndpointName::parse(text).map(Self::Endpoint),
            "operations" => Name::parse(text).map(Self::Operation),
            _ => {
                let why = "it looks like webhookEndpoints/ID or operations/ID, a parent may stand before it";
                Err(fault(text, OWNER, why.to_owned()))
            }
        }
    }

    /// The parent that the endpoint or the operation lies in.
    pub fn parent(&self) -> &str {
        match self {
            Self::Endpoint(name) => name.parent.as_str(),
            Self::Operation(name) => name.parent(),
        }
    }
}

impl fmt::Display for DeliveryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{DELIVERIES}/{}", self.owner, self.id)
    }
}

impl fmt::Display for DeliveryOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(name) => name.fmt(formatter),
            Self::Operation(name) => name.fmt(formatter),
        }
    }
}

fn fault(text: &str, wanted: &'static str, fault: String) -> NameError {
    const READABLE: usize = 80;
    NameError { text: text.chars().take(READABLE).collect(), wanted, fault }
}

const DELIVERIES: &str = "deliveries";
const DELIVERY: &str = "the name of a delivery";
const OWNER: &str = "a webhook endpoint or an operation";
/// What ids begin with. They have no dot, which signatures use.
const MESSAGE: &str = "msg_";
/// Hexadecimal digits of an id.
const DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_000102030405060708090a0b0c0d0e0f";

    #[test]
    fn the_name_of_a_delivery_reads_back_as_it_was() {
        for owner in [
            "webhookEndpoints/e",
            "projects/p/webhookEndpoints/e",
            "operations/o",
            "a/b/c/d/operations/o",
        ] {
            let text = format!("{owner}/deliveries/{ID}");
            let name = DeliveryName::parse(&text).expect("a name");
            assert_eq!((name.to_string(), name.owner.to_string()), (text, owner.to_owned()));
            assert_eq!(DeliveryName::id_of(name.number()), ID);
        }
        for text in [
            "",
            ID,
            "deliveries/x",
            &format!("deliveries/{ID}"),
            &format!("jobs/j/deliveries/{ID}"),
            &format!("webhookEndpoints/e/{ID}"),
            &format!("webhookEndpoints/-/deliveries/{ID}"),
            &format!("operations/o/deliveries/{}", &ID[4..]),
            &format!("operations/o/deliveries/{}", ID.to_uppercase()),
            &format!("operations/o/deliveries/{ID}0"),
            &format!("operations/o/deliveries/{}+", &ID[..ID.len() - 1]),
        ] {
            let refused = DeliveryName::parse(text).expect_err(text);
            assert!(refused.to_string().contains("looks like") || text.contains('-'), "{refused}");
        }
    }
}
