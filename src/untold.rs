//! In the place of `delivery.rs` where nothing is logged.

use crate::{Authenticated, Rejection, UnsubscribeEvent};

#[derive(Debug, Default)]
pub(crate) struct Notes;

pub(crate) fn head_refused(_: Option<&Authenticated>, _: Option<usize>, _: &Rejection) {}

pub(crate) fn body_refused(_: &Authenticated, _: &Rejection) {}

pub(crate) fn event_accepted(_: &Authenticated, _: &UnsubscribeEvent) {}

#[derive(Debug)]
pub(crate) struct Report;

impl Report {
    pub(crate) fn of(_: &Authenticated) -> Self {
        Self
    }

    pub(crate) fn answered<T>(&mut self, _: &T) {}
}
