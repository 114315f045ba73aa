"""What a database looks like and the shape of all that travels: pure, no connection is opened here."""
