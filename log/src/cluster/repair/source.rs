//! Where a repair gets its frames from: one call to one other member.
//!
//! Nothing that comes from here is believed; the caller checks it against signatures.

use std::future::Future;

use tokio::time::timeout;

use super::super::{
    super::cluster_wire::{FetchRequest, FetchResponse},
    network::Links,
    types::Member,
};

/// Asks other members for frames.
pub(in crate::cluster) trait Source: Sync {
    /// Asks a member for frames from `from` on, and, with `confirm`, how far the log is committed. Returns within a
    /// deadline.
    ///
    /// # Errors
    /// Why there is no answer, as text.
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
        let patience = self.distances().fetch_patience(node);
        call.set_timeout(patience);
        let answer = timeout(patience, peer.fetch(call)).await;
        self.distances().fetched(node, answer.is_ok());
        match answer {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(format!("no answer: {}", status.message())),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}
