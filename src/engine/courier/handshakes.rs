//! Receivers that agree to deliveries: the handshake of CloudEvents, for endpoints that want it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;

use super::letters::Draft;
use crate::engine::context::Context;
use crate::limits::MAX_KNOWN_RECEIVERS;
use crate::post::{Carrier, Letter, Receipt, Unanswered};

/// When receivers agreed, as the engine's clock counts.
#[derive(Default)]
pub(super) struct Handshakes {
    agreed: Mutex<HashMap<String, Duration>>,
}

impl Handshakes {
    /// Carries a letter, once its receiver agreed if it must be asked.
    pub(super) async fn carry(
        &self,
        context: &Context,
        carrier: &dyn Carrier,
        draft: &mut Draft,
    ) -> Receipt {
        if draft.endpoint.as_ref().is_some_and(|endpoint| endpoint.settings.handshake) {
            let agreed = self.shake(context, carrier, &mut draft.letter).await;
            if let Err(error) = agreed {
                return Receipt { latency: Duration::ZERO, reply: Err(error) };
            }
        }
        carrier.carry(&draft.letter).await
    }

    /// Asks the receiver of a letter, unless it agreed a while ago, and names the origin in the letter.
    async fn shake(
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
