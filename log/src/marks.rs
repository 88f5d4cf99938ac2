//! The marks of the audit log: rare situations that a search for failures has to come by. See [`gapless_world::mark`](mod@gapless_world::mark).

gapless_world::marks! {
    "store" {
        "cell-slot-torn": "A cell was opened of whose two slots one was damaged.",
        "cell-written-in-place": "A full disk had no room for the new file of a cell that was opened.",
        "frames-above-marker-kept":
            "A start found whole frames above the newest marker, wrote them once more, and kept them.",
        "header-damaged": "A start found that the header of a segment is damaged.",
        "journal-cut": "Frames at the end of a journal gave way to others.",
        "journal-poisoned": "A write or a sync failed, and the journal takes nothing more in this life.",
        "one-marker-damaged": "A start found one of a segment's two markers damaged, and took the other.",
        "prepared-files-discarded":
            "Files that a repair had prepared were thrown away, since no swap had begun with them.",
        "read-found-damage": "A read found a damaged frame while the process went on.",
        "segment-begun": "A full segment was closed and the next one begun.",
        "segment-cut-whole": "A cut of the journal removed a whole segment.",
        "segment-forgotten": "An outbox gave up a segment whose entries were all acknowledged.",
        "segment-written-in-place": "A full disk had no room for the new file of a segment at a start.",
        "survey-hopped": "The survey of a damaged journal went on behind a damaged frame by its length.",
        "survey-went-on-at-a-marker":
            "The survey of a damaged journal went on where a marker says that a frame begins.",
        "swap-finished-by-the-next-start": "A start finished a swap that a crash had broken off.",
        "swap-finished-half-way": "A start found a swap whose prepared files were already being moved in.",
        "swap-never-begun": "A start found the cell of a swap that a crash kept from beginning.",
        "sync-behind-a-new-segment": "A sync had to wait for a segment that was still being created.",
        "synced-frame-damaged": "A start found damage in frames that a sync had covered, and changed nothing.",
        "torn-tail-cut": "A start cut off what a crash had left of writes that no sync had covered, and kept it aside.",
        "unfinished-segment-removed": "A start removed a segment that a crash had left without its name.",
    }
    "recovery" {
        "joined-noted-late":
            "A crash came between the first entry of a member that joined and the note of it, and the next start noted it.",
        "log-went-back": "A start found less than its own checkpoint covers.",
        "shown-while-damaged": "A log of one that is damaged showed what of it is sound.",
        "tail-above-the-checkpoint": "A start found leaves that its own checkpoint does not cover.",
        "vote-lost": "A start found its vote damaged, or older than its log, and refused to be a member with it.",
        "whole-again": "A damaged log of one was found whole again.",
    }
    "repair" {
        "repair-answer-missing": "A member that was asked for a part of the log gave no answer.",
        "repair-asked-a-leader": "A leader told a member that is being repaired how far the log is committed.",
        "repair-begun": "A member began to repair its damaged log from the others.",
        "repair-done": "A repaired log took the place of the damaged one.",
        "repair-dropped-a-void-tail":
            "A repair left out the tail of the damaged log, for another leader's entries stand in its place.",
        "repair-found-too-little": "What a member gave was less than the repaired one had promised.",
        "repair-kept-its-own-tail": "A repair added the sound tail of the damaged log to what it had fetched.",
        "repair-needs-a-leader":
            "What a member had promised was damaged as well, so that it had to ask a leader how far the log is committed.",
        "repair-stalled": "No member could complete a repair, and it waited.",
        "repair-vote-followed":
            "A repaired log reached a later leader than the member had voted for, and the vote followed.",
        "repair-went-to-another-member": "A member was repaired by another one than the first that it asked.",
        "repair-without-own-checkpoint": "A member that was repaired had lost its own checkpoint, too.",
    }
    "elections" {
        "candidate-gave-way": "A candidate gave its own trial up for a better one.",
        "elections-in-vain": "Elections came to nothing several times in a row.",
        "longer-log-was-known": "A voter told a candidate that it holds a longer log.",
        "two-candidates": "A candidate refused another one whose log is shorter, or whose number smaller.",
        "voter-asked-again": "A voter that had said no, or nothing, was asked again.",
        "would-not-be-elected": "A member that had lost its leader found that it would not be elected.",
    }
    "replication" {
        "commits-told-beside": "A far member was told of commits beside the entries.",
        "entries-gave-way": "A member cut entries that were never committed, for those of another leader.",
        "joined-with-its-first-entry":
            "A member that joined an old log stored its first entries, and noted that it holds some.",
        "leader-met-a-newer-one": "A leader was answered that there is a newer one.",
        "leader-was-cut-off": "A leader that no quorum answered counted as none.",
        "logs-had-parted": "A leader found by questions what its log has in common with one that had parted from it.",
        "member-given-up": "A member said nothing for so long that the call to it was given up.",
        "member-got-it-again": "A member was sent again what it had acknowledged and lost.",
        "member-lost-what-it-acknowledged": "A leader found that a member holds less than it had acknowledged.",
        "request-in-pieces": "A request of Raft was so large that it went in pieces.",
        "sign-of-life": "A member that stored a request for long was sent a sign of life.",
        "telling-beside-ended": "The telling of commits to a far member came to its end.",
    }
    "appending" {
        "batch-decided-after-all": "A batch of which its callers had been told nothing certain was decided after all.",
        "batch-without-a-quorum": "A batch waited for a quorum for so long that its callers were told to come back.",
        "batches-grew-smaller": "Batches grew smaller, because their bytes took long on the line.",
        "clock-anomaly-not-noted": "A wall clock moved, and the log could not say so.",
        "clock-anomaly-noted": "A leader's wall clock moved, and the log says so.",
        "duplicate-answered": "An entry that stands in the log was answered with its first receipt.",
        "entry-larger-than-a-batch": "An entry had to wait outside, because under this budget it fits into no batch.",
        "gap-refused": "An entry came before the one before it, and was refused.",
        "leader-change-inside-a-batch": "A leader lost the lead while a batch of its was under way.",
        "queue-was-full": "An entry found no room in the queue, and its caller was told when to come back.",
        "repeat-inside-a-batch": "An entry came twice for one batch.",
        "shown-too-late": "An entry was committed, and no quorum cosigned it in time for an answer.",
    }
    "cosigning" {
        "checkpoint-not-durable-here": "A member refused a checkpoint that covers more than is durable there.",
        "cosignature-came-late": "A cosignature came that is of no use to the round under way.",
        "members-changed-in-a-round": "The members changed in the middle of a round of cosignatures.",
        "quorum-of-other-members":
            "A member did not show a checkpoint, for its own members' quorum had not cosigned it.",
        "round-overtaken": "A round of cosignatures was given up, because what it is about was shown meanwhile.",
    }
    "members" {
        "change-asked-of-a-follower": "A change of the members was asked of one that does not lead.",
        "change-undecided": "A change of the members was not committed in time.",
        "joint-change-completed":
            "A change of the members that a lost leader had left half-way was completed by the next request.",
        "learner-added": "A machine was added to the log as a learner.",
        "learner-promoted": "A learner that had caught up became a voter.",
        "member-removed": "A member was removed that had been replaced.",
        "member-vouched-for": "A member of whom the log had never heard was let in by the log's key.",
    }
    "reads" {
        "damage-beside-what-was-read":
            "A frame that was read along was damaged, and the one that was asked for was read alone.",
        "damage-ends-a-member": "A read found damage in a member's log, and the member ended, to be repaired.",
        "damage-was-mended": "Damage that a log of one had found was gone, and the log takes entries again.",
        "leader-confirmed-its-age": "A leader whose word had grown old had itself confirmed for a read.",
        "leader-not-confirmed": "A leader that was to confirm a linearizable read found no quorum.",
        "leaves-read-from-disk":
            "Leaves that had left the memory were read from the disk and compared with their hashes.",
        "read-of-a-damaged-log": "A reader was told where the sound part of a damaged log ends.",
        "read-of-unknown-age": "A read was refused by a server that has heard no leader's word yet.",
        "read-past-the-end": "A reader knew more leaves than this server shows.",
        "read-too-old": "A read was refused, because what this server shows is older than was asked for.",
        "readers-shared-a-round": "Several linearizable reads were confirmed by one round of heartbeats.",
        "word-of-another-life": "A member was told how new it is by a stamp of its former life, and believed nothing.",
        "words-waited-in-plenty": "More words of how new it is waited at a member than it keeps.",
    }
    "front door" {
        "call-after-its-certificate":
            "A call came between the end of a certificate and the look at the clock that notices it.",
        "call-overtook-another": "A call came before the one that goes before it, and waited for it.",
        "calls-cut-off-by-a-stop": "A connection that was winding up cut off calls that had not ended in time.",
        "certificate-ended-in-a-connection": "A connection was closed, because a certificate of it had ended.",
        "clock-before-the-certificate":
            "A connection was closed, because the clock stood before the other end's certificate began.",
        "connection-outlived-its-certificate":
            "A client closed a connection, for a certificate of it had ended or not begun.",
        "deadline-of-a-call": "A call was ended at its deadline.",
        "entries-waited-outside": "Entries of a stream waited on their connection, because there was no room for them.",
        "entry-too-large-for-the-log": "An entry with a payload beyond what this log takes was refused.",
        "handshake-took-too-long": "A handshake was given up, for it had taken too long.",
        "new-certificate-in-service": "A server took up a new certificate between two connections.",
        "no-room-for-a-call": "A call was sent away, because there was no memory for its answer.",
        "own-certificate-had-ended":
            "A connection was not used, because a certificate of it had ended by the time that it stood.",
        "peer-fell-silent": "A peer did not answer the pings of a connection, which was closed.",
        "schema-not-seen-yet": "A caller named a schema that this server had not seen.",
        "schema-refused": "A caller whose schema cannot be understood was refused.",
        "schemas-differ": "Two ends of different schemas agreed to understand each other.",
        "stopped-while-starting": "A server was asked to stop before its start was over.",
        "stream-wound-up": "A stream of entries was asked to go on over another connection.",
        "turned-away-in-a-repair": "A member that is being repaired turned a caller away.",
        "unknown-member-called": "A name that is not known as a member's was let in with a small call.",
    }
    "outbox" {
        "closing-entry-owed": "A client's next life owed the entry that closes the place of a dead letter.",
        "dead-letter-kept": "A client kept an entry that the log refused as a dead letter.",
        "outbox-full": "An outbox was full, and its caller waited.",
        "outbox-had-a-rest": "A client's next life found entries that were not acknowledged.",
    }
    "delivery" {
        "broken-before-the-proof": "A connection broke before its receipts could be linked.",
        "budget-was-spent": "A client had spent its budget for trying again, and slowed down.",
        "every-server-turned-away": "A client's certificate was turned away by every server.",
        "gap-behind-another": "A log named a gap behind an entry that was under way, and the client went back.",
        "lane-squeezed": "A client was turned away until it sent fewer entries at once than it sends at any distance.",
        "led-elsewhere": "A client followed the word of who leads at once.",
        "led-in-a-circle": "A client did not believe who is said to lead, for it had asked that one in vain.",
        "parked": "A client parked, because only somebody can cure what keeps it.",
        "receipt-rejected": "A client rejected a receipt that a server had given.",
        "receipts-linked": "A client asked for proofs that link the receipts of several checkpoints.",
        "renewed-between-calls": "A client changed to a new certificate once nothing was under way.",
        "repeat-was-received": "A client got the first receipt of an entry that it had sent before.",
        "resumed": "A client that had parked went on.",
        "server-was-silent": "A client waited for an answer in vain.",
        "told-to-wait": "A client was told by a server that is too busy when to come back.",
        "window-was-full": "A client had as many entries under way as it lets itself have.",
    }
    "readers" {
        "reader-met-one-behind": "A reader went to a server that shows less than others had shown.",
    }
}
