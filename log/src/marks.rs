//! The marks of the audit log: rare situations that a search for failures has to reach. See
//! [`gapless_world::mark`](mod@gapless_world::mark).

gapless_world::marks! {
    "store" {
        "cell-slot-torn": "A cell was opened, and one of its two slots was damaged.",
        "cell-written-in-place":
            "A cell was written in place when it was opened, because a full disk had no room for its new file.",
        "frames-above-marker-kept":
            "A start found whole frames above the newest marker, wrote them again, and kept them.",
        "header-damaged": "A start found the header of a segment damaged.",
        "journal-cut": "Frames at the end of a journal gave way to others.",
        "journal-poisoned": "A write or a sync failed, and the journal accepts nothing more in this life.",
        "one-marker-damaged": "A start found one of a segment's two markers damaged, and used the other.",
        "prepared-files-discarded":
            "Files that a repair had prepared were discarded, because no swap had begun with them.",
        "read-found-damage": "A read found a damaged frame in a running process.",
        "segment-begun": "A full segment was closed, and the next one was begun.",
        "segment-cut-whole": "A cut of the journal removed a whole segment.",
        "segment-forgotten": "An outbox gave up a segment whose entries were all acknowledged.",
        "segment-written-in-place":
            "A start wrote a segment in place, because a full disk had no room for its new file.",
        "survey-hopped": "The survey of a damaged journal passed over a damaged frame by the length of that frame.",
        "survey-went-on-at-a-marker":
            "The survey of a damaged journal went on where, according to a marker, a frame begins.",
        "swap-finished-by-the-next-start": "A start finished a swap that a crash had interrupted.",
        "swap-finished-half-way": "A start found a swap whose prepared files were already being moved into place.",
        "swap-never-begun": "A start found the cell of a swap that never began because of a crash.",
        "sync-behind-a-new-segment": "A sync waited for a segment that was still being created.",
        "synced-frame-damaged": "A start found damage in frames that a sync had covered, and changed nothing.",
        "torn-tail-cut": "A start cut off what a crash had left of writes that no sync had covered, and kept it aside.",
        "unfinished-segment-removed": "A start removed a segment that a crash had left without its name.",
    }
    "recovery" {
        "joined-noted-late":
            "A member that joined crashed between its first entry and the note of it, and the next start noted it.",
        "log-went-back": "A start found fewer leaves than its own checkpoint covers.",
        "shown-while-damaged": "A damaged log of one showed its sound part.",
        "tail-above-the-checkpoint": "A start found leaves that its own checkpoint does not cover.",
        "vote-lost": "A start found its vote damaged, or older than its log, and refused to be a member with it.",
        "whole-again": "A damaged log of one was found whole again.",
    }
    "repair" {
        "repair-answer-missing": "A member that was asked for a part of the log did not answer.",
        "repair-asked-a-leader": "A leader told a member that is being repaired how far the log is committed.",
        "repair-begun": "A member began to repair its damaged log from the others.",
        "repair-done": "A repaired log took the place of the damaged one.",
        "repair-dropped-a-void-tail":
            "A repair left out the tail of the damaged log, because another leader's entries stand in its place.",
        "repair-found-too-little": "A repair obtained less from a member than the damaged member had promised.",
        "repair-kept-its-own-tail": "A repair added the sound tail of the damaged log to what it had fetched.",
        "repair-needs-a-leader":
            "What a member had promised was damaged, too, so it had to ask a leader how far the log is committed.",
        "repair-stalled": "A repair waited, because no member could complete it.",
        "repair-vote-followed":
            "A repaired log reached a later leader than the member had voted for, and the vote followed.",
        "repair-went-to-another-member": "A member was repaired from a member other than the first that it asked.",
        "repair-without-own-checkpoint": "A member under repair had lost its own checkpoint, too.",
    }
    "elections" {
        "candidate-gave-way": "A candidate gave up its own trial for a better candidate.",
        "elections-in-vain": "Several elections in a row came to nothing.",
        "longer-log-was-known": "A voter refused a candidate, because the voter's log is longer.",
        "two-candidates": "A candidate refused another candidate, whose log is shorter or whose number is smaller.",
        "voter-asked-again": "A voter that had said no, or had not answered, was asked again.",
        "would-not-be-elected": "A member that had lost its leader found that it would not be elected.",
    }
    "replication" {
        "commits-told-beside": "A far member was told of commits separately from the entries.",
        "entries-gave-way":
            "A member cut off entries that were never committed, to make room for those of another leader.",
        "joined-with-its-first-entry":
            "A member that joined an old log stored its first entries, and noted that it holds entries.",
        "leader-met-a-newer-one": "An answer told a leader that there is a newer leader.",
        "leader-was-cut-off": "A leader that no quorum answered ceased to count as a leader.",
        "logs-had-parted":
            "A leader found out by questions what its log has in common with a log that had diverged from it.",
        "member-given-up": "A member was silent for so long that the call to it was given up.",
        "member-got-it-again": "A member was sent again what it had acknowledged and then lost.",
        "member-lost-what-it-acknowledged": "A leader found that a member holds less than it had acknowledged.",
        "request-in-pieces": "A request of Raft was so large that it was sent in pieces.",
        "sign-of-life": "A member that took long to store a request was sent a sign of life.",
        "telling-beside-ended": "The call that told a far member of commits separately came to its end.",
    }
    "appending" {
        "batch-decided-after-all": "A batch was decided after all, although its callers had been told nothing certain.",
        "batch-without-a-quorum": "A batch waited for a quorum for so long that its callers were told to come back.",
        "batches-grew-smaller": "Batches became smaller, because their bytes took long on the line.",
        "clock-anomaly-not-noted": "A wall clock moved, and the log could not record it.",
        "clock-anomaly-noted": "A leader's wall clock moved, and the log records it.",
        "duplicate-answered": "An entry that was in the log already was answered with its first receipt.",
        "entry-larger-than-a-batch": "An entry had to wait outside, because it fits into no batch under this budget.",
        "gap-refused": "An entry came before its predecessor, and was refused.",
        "leader-change-inside-a-batch": "A leader lost the lead while one of its batches was under way.",
        "queue-was-full": "An entry found no room in the queue, and its caller was told when to come back.",
        "repeat-inside-a-batch": "An entry came twice for the same batch.",
        "shown-too-late": "An entry was committed, but no quorum cosigned it in time for an answer.",
    }
    "cosigning" {
        "checkpoint-not-durable-here":
            "A member refused a checkpoint that covers more than the member has on its disk.",
        "cosignature-came-late": "A cosignature arrived that is of no use to the round under way.",
        "members-changed-in-a-round": "The members changed in the middle of a round of cosignatures.",
        "quorum-of-other-members":
            "A member did not show a checkpoint, because no quorum of the members that it knows had cosigned it.",
        "round-overtaken": "A round of cosignatures was given up, because what it covers had been shown meanwhile.",
    }
    "members" {
        "change-asked-of-a-follower": "A change of the members was asked of one that does not lead.",
        "change-undecided": "A change of the members was not committed in time.",
        "joint-change-completed":
            "The next request completed a change of the members that a lost leader had left half-way.",
        "learner-added": "A machine was added to the log as a learner.",
        "learner-promoted": "A learner that had caught up became a voter.",
        "member-removed": "A member that had been replaced was removed.",
        "member-vouched-for": "A member of which the log had never heard was admitted by the log's key.",
    }
    "reads" {
        "damage-beside-what-was-read":
            "A frame that was read along was damaged, and the frame that was asked for was read alone.",
        "damage-ends-a-member": "A read found damage in a member's log, and the member ended, so that it is repaired.",
        "damage-was-mended": "Damage that a log of one had found was gone, and the log accepts entries again.",
        "leader-confirmed-its-age":
            "A leader whose age had grown too large for a read had itself confirmed by a quorum.",
        "leader-not-confirmed": "A leader found no quorum to confirm it for a linearizable read.",
        "leaves-read-from-disk": "Leaves that had left memory were read from the disk and compared with their hashes.",
        "read-of-a-damaged-log": "A reader was told where the sound part of a damaged log ends.",
        "read-of-unknown-age": "A read was refused by a server that had not heard from a leader yet.",
        "read-past-the-end": "A reader knew of more leaves than this server shows.",
        "read-too-old": "A read was refused, because what this server shows is older than the reader accepts.",
        "readers-shared-a-round": "One round of heartbeats confirmed several linearizable reads.",
        "word-of-another-life":
            "A member was told how new it is by a stamp of its former life, and did not believe it.",
        "words-waited-in-plenty": "More messages about how new a member is were waiting there than it keeps.",
    }
    "front door" {
        "call-after-its-certificate":
            "A call came after the end of a certificate, and before the check of the clock that notices the end.",
        "call-overtook-another": "A call came before its predecessor, and waited for it.",
        "calls-cut-off-by-a-stop": "A connection that was winding up cut off calls that had not ended in time.",
        "certificate-ended-in-a-connection": "A connection was closed, because one of its certificates had ended.",
        "clock-before-the-certificate":
            "A connection was closed, because the clock stood before the beginning of the other end's certificate.",
        "connection-outlived-its-certificate":
            "A client closed a connection, because one of its certificates had ended or had not begun.",
        "deadline-of-a-call": "A call was ended at its deadline.",
        "entries-waited-outside": "Entries of a stream waited on their connection, because there was no room for them.",
        "entry-too-large-for-the-log": "An entry with a payload larger than this log accepts was refused.",
        "handshake-took-too-long": "A handshake was given up, because it had taken too long.",
        "new-certificate-in-service": "A server began to use a new certificate between two connections.",
        "no-room-for-a-call": "A call was turned away, because there was no memory for its answer.",
        "own-certificate-had-ended":
            "A connection was not used, because one of its certificates had ended by the time that it was established.",
        "peer-fell-silent": "A peer did not answer the pings of a connection, which was then closed.",
        "schema-not-seen-yet": "A caller named a schema that this server had not seen.",
        "schema-refused": "A caller whose schema is not compatible was refused.",
        "schemas-differ": "Two ends with different schemas found them compatible.",
        "stopped-while-starting": "A server was asked to stop before its start was over.",
        "stream-wound-up": "A stream of entries was asked to go on over another connection.",
        "turned-away-in-a-repair": "A member under repair turned a caller away.",
        "unknown-member-called": "A call by a name that is not known as a member's was admitted, within small bounds.",
    }
    "outbox" {
        "closing-entry-owed":
            "A client found at its start that it owed the entry that closes the place of a dead letter.",
        "dead-letter-kept": "A client kept, as a dead letter, an entry that the log had refused.",
        "entries-moved-to-a-new-epoch": "Entries of an outbox that was put back moved to a new epoch.",
        "outbox-full": "An outbox was full, and its caller waited.",
        "outbox-had-a-rest": "A client found at its start entries that were not acknowledged.",
        "outbox-was-rolled-back": "The log had another entry under a sequence that an outbox assigned anew.",
    }
    "delivery" {
        "broken-before-the-proof": "A connection broke before its receipts could be linked.",
        "budget-was-spent": "A client had spent its retry budget, and slowed down.",
        "every-server-turned-away": "Every server turned a client's certificate away.",
        "gap-behind-another": "The log reported a gap behind an entry that was under way, and the client went back.",
        "lane-squeezed": "A client was turned away until it sent fewer entries at once than it does at any distance.",
        "led-elsewhere": "A client at once followed a server's word about who leads.",
        "led-in-a-circle":
            "A client did not believe a server's word about who leads, because it had asked that leader in vain.",
        "parked": "A client parked, because only a person can cure what stops it.",
        "receipt-rejected": "A client rejected a receipt that a server had given.",
        "receipts-linked": "A client asked for proofs that link the receipts of several checkpoints.",
        "renewed-between-calls": "A client switched to a new certificate once nothing was under way.",
        "repeat-was-received": "A client received the first receipt of an entry that it had sent before.",
        "resumed": "A client that had parked resumed.",
        "server-was-silent": "A client waited in vain for an answer.",
        "told-to-wait": "A server that was too busy told a client when to come back.",
        "window-was-full": "A client had as many entries under way as it allows itself.",
    }
    "readers" {
        "reader-met-one-behind": "A reader met a server that shows less than other servers had shown.",
    }
}
