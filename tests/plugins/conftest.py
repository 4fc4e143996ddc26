"""The example's own tests need the example installed: `test_example` runs them there."""

collect_ignore = ["example"]
