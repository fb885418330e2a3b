//! In the place of `delivery.rs` where nothing is logged.

#![expect(clippy::unused_self, reason = "the signatures are those of delivery.rs")]

use crate::{Authenticated, Rejection, UnsubscribeEvent};

#[derive(Debug, Default)]
pub(crate) struct Notes(());

pub(crate) fn missing_layer(_: &Rejection) {}

pub(crate) fn unauthenticated(_: Option<&Authenticated>, _: &Rejection) {}

pub(crate) fn body_refused(_: &Authenticated, _: &Rejection, _: &[u8]) {}

pub(crate) fn event_accepted(_: &Authenticated, _: &UnsubscribeEvent) {}

#[derive(Debug)]
pub(crate) struct Report;

impl Report {
    pub(crate) fn of(_: &Authenticated) -> Self {
        Self
    }

    pub(crate) fn forbidden(&mut self, _: &Authenticated, _: &Rejection) {}

    pub(crate) fn answered<T>(&mut self, _: &T) {}
}
