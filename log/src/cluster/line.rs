//! The leader's end of a stream of AppendEntries to one member, whatever the distance.
//!
//! A call is given up when nothing has been heard from the member for a while, never because it takes long: a mebibyte
//! over a thin line takes seconds, and so does a slow disk. To tell these from a dead line, a large request goes in
//! pieces that are answered one by one. While the member stores the request, signs of life go after it and are answered
//! at once, without waiting for the disk. Both tell the member that its leader is there, so that data on its way is
//! never taken for silence.
//!
//! Only one request is under way at a time. A call that its caller gave up takes the stream with it.

use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, future::ready, stream::once};
use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming, transport::Channel};

use super::super::cluster_wire::{self as wire, append_response::Outcome, replication_client::ReplicationClient};
use super::sum::Summed as _;

/// A larger request goes in pieces of this many bytes. Over a line of 64 KiB a second there is one every half second,
/// often enough to be a sign of life.
pub(super) const PIECE_BYTES: usize = 32 << 10;
/// A member that owes an answer is sent a sign of life when it was sent nothing else for this long.
const BEAT_EVERY: Duration = Duration::from_millis(300);

type Opening = Pin<Box<dyn Future<Output = Result<Response<Streaming<wire::AppendResponse>>, Status>> + Send>>;

/// See the module. A stream between two calls.
pub(super) struct Line {
    requests: mpsc::Sender<wire::AppendRequest>,
    answers: Streaming<wire::AppendResponse>,
}

/// The answers of a stream, whose headers come some time after the first request has gone.
enum Answers {
    Opening(Opening),
    Open(Box<Streaming<wire::AppendResponse>>),
}

/// How one call watches its line.
pub(super) struct Watch<F> {
    /// How long the member may be silent.
    pub(super) patience: Duration,
    /// Called for each answer.
    pub(super) heard: F,
}

impl Line {
    /// Opens a new stream and makes the first call on it. The first message goes with the stream itself, so that
    /// opening it costs no round trip of its own.
    pub(super) async fn begin(
        mut client: ReplicationClient<Channel>,
        request: wire::AppendRequest,
        watch: Watch<impl Fn()>,
    ) -> Result<(wire::AppendResponse, Line), Status> {
        let (beat, mut parts) = (sign_of_life(&request), parts(request));
        let first = parts.pop_front().unwrap_or_default();
        let (requests, sent) = mpsc::channel(1);
        let requested = once(ready(first)).chain(ReceiverStream::new(sent));
        let opening: Opening = Box::pin(async move { client.append(requested).await });
        exchange(requests, Answers::Opening(opening), beat, parts, watch).await
    }

    /// Makes the next call.
    pub(super) async fn call(
        self,
        request: wire::AppendRequest,
        watch: Watch<impl Fn()>,
    ) -> Result<(wire::AppendResponse, Line), Status> {
        let (beat, parts) = (sign_of_life(&request), parts(request));
        exchange(self.requests, Answers::Open(Box::new(self.answers)), beat, parts, watch).await
    }
}

/// Sends what is left of a request, and waits for its answer.
async fn exchange(
    requests: mpsc::Sender<wire::AppendRequest>,
    mut answers: Answers,
    beat: wire::AppendRequest,
    mut parts: VecDeque<wire::AppendRequest>,
    Watch { patience, heard }: Watch<impl Fn()>,
) -> Result<(wire::AppendResponse, Line), Status> {
    let mut sent_at = Instant::now();
    let mut heard_at = sent_at;
    let answer = loop {
        // A member that has fallen silent is sent nothing more: one that only hears this leader must be free to elect
        // another.
        let beats = parts.is_empty() && heard_at + patience / 2 > Instant::now();
        tokio::select! {
            biased;
            answer = answers.next() => {
                let answer = answer?;
                heard_at = Instant::now();
                heard();
                if answer.outcome != Outcome::Received as i32 {
                    break answer;
                }
            }
            room = requests.reserve(), if !parts.is_empty() => match (room, parts.pop_front()) {
                (Ok(room), Some(part)) => {
                    room.send(part);
                    sent_at = Instant::now();
                }
                // Nobody takes it: the stream has ended, and its end says why.
                _ => parts.clear(),
            },
            () = sleep_until(sent_at + BEAT_EVERY), if beats => {
                mark!("sign-of-life");
                // If there is no room for it, something that says as much is on its way.
                requests.try_send(beat.clone()).ok();
                sent_at = Instant::now();
            }
            () = sleep_until(heard_at + patience) => {
                mark!("member-given-up");
                return Err(Status::deadline_exceeded("the member has said nothing in time"));
            }
        }
    };
    Ok((answer, Line { requests, answers: answers.open()? }))
}

impl Answers {
    /// The next answer. Cancel safe.
    async fn next(&mut self) -> Result<wire::AppendResponse, Status> {
        if let Answers::Opening(opening) = self {
            let open = opening.as_mut().await?.into_inner();
            *self = Answers::Open(Box::new(open));
        }
        match self {
            Answers::Open(answers) => {
                let answer = answers.message().await?;
                answer.ok_or_else(|| Status::unavailable("the member ended the stream"))?.checked()
            }
            Answers::Opening(_) => Err(not_open()),
        }
    }

    fn open(self) -> Result<Streaming<wire::AppendResponse>, Status> {
        match self {
            Answers::Open(answers) => Ok(*answers),
            Answers::Opening(_) => Err(not_open()),
        }
    }
}

/// Cannot happen: an answer came over the stream.
fn not_open() -> Status {
    Status::internal("a stream that has answered is not open")
}

fn sign_of_life(request: &wire::AppendRequest) -> wire::AppendRequest {
    wire::AppendRequest { route: request.route.clone(), vote: request.vote, beat: true, ..Default::default() }
}

/// A request as it travels: whole, or in pieces.
fn parts(request: wire::AppendRequest) -> VecDeque<wire::AppendRequest> {
    let length = request.encoded_len();
    if length <= PIECE_BYTES {
        return VecDeque::from([request]);
    }
    mark!("request-in-pieces");
    let whole: Bytes = request.encode_to_vec().into();
    let piece = |from: usize| {
        let to = length.min(from + PIECE_BYTES);
        wire::AppendRequest { piece: whole.slice(from..to), rest: (length - to) as u64, ..Default::default() }
    };
    let mut pieces: VecDeque<wire::AppendRequest> = (0..length).step_by(PIECE_BYTES).map(piece).collect();
    if let Some(first) = pieces.front_mut() {
        (first.route, first.vote) = (request.route, request.vote);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::cluster_wire::{Ballot, Frame, Route},
        *,
    };

    fn request(bytes: usize) -> wire::AppendRequest {
        let body: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
        wire::AppendRequest {
            route: Some(Route { from: 1, to: 2, ..Route::default() }),
            vote: Some(Ballot { term: 3, node: 1, committed: true }),
            frames: vec![Frame { index: 7, term: 3, kind: 2, body: body.into() }],
            ..Default::default()
        }
    }

    #[test]
    fn a_request_goes_whole_where_it_is_small_and_else_in_pieces_that_make_it_up_again() {
        for bytes in [0, 1, PIECE_BYTES - 64, PIECE_BYTES, PIECE_BYTES + 1, 10 * PIECE_BYTES + 77] {
            let request = request(bytes);
            let parts = parts(request.clone());
            if request.encoded_len() <= PIECE_BYTES {
                assert_eq!(parts, [request], "{bytes}");
                continue;
            }
            assert_eq!((parts[0].route.clone(), parts[0].vote), (request.route.clone(), request.vote), "{bytes}");
            assert!(parts.iter().all(|part| part.encoded_len() <= PIECE_BYTES + 100 && part.frames.is_empty()));
            let mut left = request.encoded_len();
            for part in &parts {
                left -= part.piece.len();
                assert_eq!(part.rest, left as u64, "{bytes}");
            }
            let whole: Vec<u8> = parts.iter().flat_map(|part| part.piece.to_vec()).collect();
            assert_eq!(wire::AppendRequest::decode(&whole[..]).unwrap(), request, "{bytes}");
        }
    }
}
