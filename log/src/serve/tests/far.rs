//! What a member that is far away may send before anything comes back to it.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::bench::{Bench, channel};
use crate::cluster_wire::{AppendRequest, Ballot, Route, replication_client::ReplicationClient};

/// The size in bytes of the pieces in which a large call goes.
const PIECE: usize = 32 << 10;
/// The size of a leader's largest call, with what belongs to it.
const CALL: usize = (1 << 20) + PIECE;
const SOON: Duration = Duration::from_secs(10);

/// This holds whatever the previous call left of the window: otherwise a call over a far line would take two round
/// trips instead of one.
#[tokio::test]
async fn a_leaders_whole_call_goes_out_before_anything_comes_back() {
    for before in [0, CALL / 4, CALL / 2, CALL * 7 / 8, CALL] {
        let bench = Bench::member(|_| ()).await;
        let far = bench.net.from("server-2");
        let mut leader = ReplicationClient::new(channel(&far, &bench.client("server-2")).await.unwrap());
        let (pieces, sent) = mpsc::channel(1);
        let mut answers = leader.append(ReceiverStream::new(sent)).await.unwrap().into_inner();
        let piece = || AppendRequest {
            route: Some(Route { log_id: vec![1; 16].into(), from: 2, to: 1, ..Route::default() }),
            vote: Some(Ballot { term: 9, node: 2, committed: true }),
            piece: vec![7; PIECE].into(),
            rest: 1,
            ..AppendRequest::default()
        };
        for _ in 0..before / PIECE {
            pieces.send(piece()).await.unwrap();
            answers.message().await.unwrap().expect("each piece is answered");
        }
        far.deafen();
        let whole = async {
            for _ in 0..CALL / PIECE {
                pieces.send(piece()).await.unwrap();
            }
            // There is room for another piece once the last one has gone.
            pieces.reserve().await.map(drop).unwrap();
        };
        timeout(SOON, whole).await.unwrap_or_else(|_| panic!("a call waits for an answer after {before} bytes"));
    }
}
