//! A host on PostgreSQL: any number of replicas store each event once.
//!
//! Copy the crate and make it yours. `list.rs` is the suppression list, `migrations/` its tables,
//! `process.rs` what a process needs; the two routes are here. `bin/reconcile/` adds what
//! only the provider's own list has.

#![allow(clippy::missing_errors_doc, reason = "the types' docs say when a method fails")]

mod list;
pub mod process;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use serde_json::{Value, json};
use unsubscribe_webhook::{Code, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

pub use crate::list::{Refused, SuppressionList};

/// The webhook, and what a sending app asks. Each has a credential of its own: a sending app must
/// not be able to forge an unsubscribe.
pub fn router(list: SuppressionList, provider: WebhookAuth, sender: WebhookAuth) -> Router {
    Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed).layer(provider))
        .route("/suppressed/{phone}", get(suppressed).layer(sender))
        .with_state(list)
}

/// Responds after the commit: 200 to an event, 400 or 403 to a refused body. Otherwise 500, and the provider
/// sends it again.
async fn unsubscribed(
    State(list): State<SuppressionList>,
    event: Result<UnsubscribeEvent, Rejection>,
) -> Result<Received, ServerError> {
    match event {
        Ok(event) => {
            list.add(&event).await?;
            Ok(Received)
        }
        // Another of the account's events: acknowledged, or it would be sent four times.
        Err(rejection) if rejection.code() == Code::OtherEvent => Ok(Received),
        Err(rejection) => {
            let Some(body) = rejection.body() else { return Err(rejection.into()) };
            list.add_refused(body, &Refused::from(&rejection)).await?;
            // Without an opt-out a person must read the body: the log reports a last attempt as lost.
            let is_kept = rejection.opt_out().is_some();
            Err(if is_kept { rejection.kept() } else { rejection }.into())
        }
    }
}

/// Whether an account may not text a number, as the provider writes it (E.164).
async fn suppressed(
    State(list): State<SuppressionList>,
    Path(phone): Path<String>,
) -> Result<Json<Value>, ServerError> {
    let rows = list.accounts(&phone).await?;
    let accounts: Vec<_> = rows.iter().flatten().collect();
    Ok(Json(json!({
        "phone": phone,
        "suppressed": !rows.is_empty(),
        // If the account was not known, no account may text the number.
        "every_account": rows.contains(&None),
        // Those (`user_id`) that the person unsubscribed from.
        "accounts": accounts,
    })))
}
