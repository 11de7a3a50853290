"""The store's copy of transcripts and the binary's own files, kept in step."""
