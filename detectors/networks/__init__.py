"""Networks of papers in pure torch: no images, no files, no runtimes; imported only where something is trained."""
