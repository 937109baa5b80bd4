-- What a claimed file was when it was stored: one that was written since is no leftover, but news.
ALTER TABLE leftover ADD COLUMN bytes INTEGER;
ALTER TABLE leftover ADD COLUMN device INTEGER;
ALTER TABLE leftover ADD COLUMN inode INTEGER;
ALTER TABLE leftover ADD COLUMN mtime_ns INTEGER;
