//! The marks of the harness itself: rare situations of faults, of the simulation and of the judge.

gapless_world::marks! {
    "faults" {
        "moment-never-came": "A step did not run, because the moment that it waited for did not come.",
        "nobody-to-strike": "A step on hosts found no host to strike.",
        "power-lost-at-the-moment": "The power failed at the very moment at which a step was aimed.",
        "struck-while-down": "A step struck a host that was already down.",
    }
    "simulation" {
        "clean-and-unwritten": "A sync failed, and its bytes were marked clean without having been written.",
        "client-died-with-calls": "A client died while callers waited for it.",
        "dialled-into-the-dark": "A connect was tried while one of its two hosts had no power.",
        "disk-put-back": "A disk was put back to an earlier state, and forgot something.",
        "host-ended-by-itself": "A host ended by itself, and its supervisor started it again.",
        "name-was-lost": "A power loss took the name of a file, or of a folder.",
        "power-lost-unsynced-bytes": "A power loss took bytes that were not synced.",
        "power-tore-a-write": "A power loss tore a write apart.",
        "read-again-at-the-end": "A server was read again at the end, because another one showed more.",
        "replaced-at-second-try": "An operator had to try again before a machine was replaced.",
        "server-unread-at-the-end": "A server could not be read at once when everything was over.",
        "steps-outlasted-the-work": "Steps went on after the last entry had been offered.",
        "sync-held-by-a-pause": "A sync of a paused host was held until it went on.",
        "sync-lied-torn": "A disk reported a write as complete that it had written only in part.",
        "write-went-astray": "A write landed in the wrong place on the disk.",
        "writes-reordered": "A power loss kept later writes of a file and lost earlier ones.",
    }
    "judging" {
        "blind-for-long": "A client with something to send got no acknowledgement for more than half a minute.",
        "entry-was-refused": "A caller was told that its entry is not in the log and never will be.",
        "nothing-went-wrong": "A run had no step at all, so nothing was made to fail.",
        "unknown-never-came": "An entry whose caller had no answer never reached the log.",
        "unknown-was-found": "An entry whose caller had no answer is in the log.",
    }
}
