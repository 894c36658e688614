"""The page takes nothing for granted."""
