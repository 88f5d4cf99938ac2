//! Every file in `scenarios/` is a test of its own name.

gapless::main!(gapless::system::AuditLog::default(), "scenarios");
