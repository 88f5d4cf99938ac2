//! The marks of the harness itself: rare situations of faults, of the simulation and of the judge.

gapless_world::marks! {
    "faults" {
        "moment-never-came": "A step did not run, for the moment that it waited for did not come.",
        "nobody-to-strike": "A step found nobody of whom it spoke.",
        "power-lost-at-the-moment": "The power failed at the very moment that a step was aimed at.",
        "struck-while-down": "A step struck a host that was down already.",
    }
    "simulation" {
        "clean-and-unwritten": "A sync failed, and its bytes were marked clean without having been written.",
        "client-died-with-calls": "A client died while callers waited for it.",
        "dialled-into-the-dark": "A host without power was dialled.",
        "host-ended-by-itself": "A host ended by itself, and its supervisor started it again.",
        "name-was-lost": "A power loss took the name of a file, or of a folder.",
        "power-lost-unsynced-bytes": "A power loss took bytes that were not synced.",
        "power-tore-a-write": "A power loss tore a write apart.",
        "read-again-at-the-end": "A server was read again in the end, because another one showed more.",
        "replaced-at-second-try": "An operator had to ask again before a machine was replaced.",
        "server-unread-at-the-end": "A server could not be read at once when all was over.",
        "steps-outlasted-the-work": "Steps went on after the last entry had been offered.",
        "sync-held-by-a-pause": "A sync of a paused host was held until it went on.",
        "sync-lied-torn": "A disk said that it had written what it had written in part.",
        "write-went-astray": "A write landed at another place of the disk.",
        "writes-reordered": "A power loss kept later writes of a file and lost earlier ones.",
    }
    "judging" {
        "blind-for-long": "A client was blind for longer than half a minute.",
        "entry-was-refused": "A caller was told that its entry is not in the log and never will be.",
        "nothing-went-wrong": "No step at all was asked for in a run.",
        "unknown-never-came": "An entry whose caller had no answer never came to the log.",
        "unknown-was-found": "An entry whose caller had no answer is in the log.",
    }
}
