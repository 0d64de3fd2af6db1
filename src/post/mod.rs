//! Deliveries on the wire: what is sent to a receiver, how it is signed and checked, and where it may go.
//! `fetch.rs` reads documents of servers that the operator has named.
//!
//! This module knows no store and no schedule. The courier of the engine decides what is sent and when.

mod address;
mod carrier;
mod connector;
mod fetch;
mod guard;
mod letter;
mod reply;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

pub use self::carrier::{Carrier, HttpCarrier};
pub use self::connector::{Resolve, SystemResolver};
pub use self::fetch::HttpsFetcher;
pub use self::guard::{Refused, UrlGuard};
pub use self::letter::{Letter, LetterContent, TestContent, is_reserved};
pub use self::reply::{Receipt, ReceiverReply, ReplyVerdict, Unanswered};
pub use self::sign::{BadKey, SigningKey, signatures};
pub use self::verify::{BadVerifyingKey, SignedHead, Unverified, VerifyingKey};
