//! Receivers that agree to deliveries: the handshake of CloudEvents, for endpoints that want it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;

use crate::engine::context::Context;
use crate::limits::MAX_KNOWN_RECEIVERS;
use crate::post::{Carrier, Letter, Unanswered};

/// When receivers agreed, as the engine's clock counts.
#[derive(Default)]
pub(super) struct Handshakes {
    agreed: Mutex<HashMap<String, Duration>>,
}

impl Handshakes {
    /// Asks the receiver of a letter, unless it agreed a while ago, and names the origin in the letter.
    pub(super) async fn shake(
        &self,
        context: &Context,
        carrier: &dyn Carrier,
        letter: &mut Letter,
    ) -> Result<(), Unanswered> {
        let (origin, now) = (&context.settings.delivery_origin, context.clock.elapsed());
        if let Ok(value) = HeaderValue::try_from(origin) {
            letter.headers.insert("webhook-request-origin", value);
        }
        let agreed = self.lock().get(&letter.url).copied();
        if agreed.is_some_and(|at| now.saturating_sub(at) < AGREED) {
            return Ok(());
        }
        carrier.ask(&letter.url, origin).await?;
        let mut agreed = self.lock();
        if agreed.len() >= MAX_KNOWN_RECEIVERS {
            agreed.clear();
        }
        agreed.insert(letter.url.clone(), now);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Duration>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an agreement counts.
const AGREED: Duration = Duration::from_hours(1);
