-- Nothing is left to do: schema.sql has it.
DO $$ BEGIN END $$;
