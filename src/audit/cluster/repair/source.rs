//! Where a repair gets its frames from: one call to one other member.
//!
//! Nothing that comes from here is believed; it is held against signatures by whoever asked.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use super::super::{
    super::cluster_wire::{FetchRequest, FetchResponse},
    network::Links,
    types::Member,
};

/// One call to another member. It has to bring a mebibyte over a slow line.
const CALL_MAX: Duration = Duration::from_secs(5);

/// Asks members.
pub(in crate::audit::cluster) trait Source: Sync {
    /// Asks a member for frames from `from` on, and, with `confirm`, how far the log is committed. Answers by a deadline.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    fn fetch(
        &self,
        node: u64,
        member: &Member,
        from: u64,
        confirm: bool,
    ) -> impl Future<Output = Result<FetchResponse, String>> + Send;
}

impl Source for Links {
    async fn fetch(&self, node: u64, member: &Member, from: u64, confirm: bool) -> Result<FetchResponse, String> {
        let mut peer = self.to(node, member).map_err(|why| why.to_string())?;
        let mut call = tonic::Request::new(FetchRequest { route: Some(self.route(node, member)), from, confirm });
        call.set_timeout(CALL_MAX);
        match timeout(CALL_MAX, peer.fetch(call)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(format!("no answer: {}", status.message())),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}
